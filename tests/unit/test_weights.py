"""What training begins with: files that are right and files that are not, and the library's default."""

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import make_spec, weights_hash
from torchvision import models

from darkroom.digests import file_sha256
from darkroom.errors import UserError
from darkroom.models.factory import make_classifier
from darkroom.models.file import save_model
from darkroom.models.weights import start_from

NAME = "torchvision:squeezenet1_1"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MOBILENET = Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v2.pth"


def library_spec(**changes: Any) -> Any:
    return make_spec(**{"name": NAME, "channels": 3, "input_size": (32, 32), **changes})


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return models.squeezenet1_1().state_dict()


def is_taken_over(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = model.network.backbone.state_dict()
    return bool(own) and all(torch.equal(tensor, state[name]) for name, tensor in own.items())


def save(state: Any, path: Path) -> Path:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("head", ["linear", "concat_pool"])
def test_a_file_of_the_librarys_begins_the_backbone(
    weights: Path, state: dict[str, torch.Tensor], suffix: str, head: str
) -> None:
    path = save(state, weights / f"weights{suffix}")
    start = start_from(f"{path}", library_spec(head=head))
    assert is_taken_over(start.classifier, state)
    assert not is_taken_over(make_classifier(library_spec(head=head)), state)
    assert (start.spec.mean, start.spec.std) == IMAGENET
    assert start.classifier.mean.flatten().tolist() == pytest.approx(IMAGENET[0])
    assert start.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert start.remark == ""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {key: t for key, t in state.items() if not key.startswith("classifier")},
    ],
)
def test_usual_wrappings_are_taken_off(weights: Path, state: dict[str, torch.Tensor], wrap: Any) -> None:
    path = save(wrap(state), weights / "weights.pth")
    assert is_taken_over(start_from(f"{path}", library_spec()).classifier, state)


def test_the_new_head_is_drawn_from_the_seed(weights: Path, state: dict[str, torch.Tensor]) -> None:
    path = save(state, weights / "weights.pth")

    def hash_of(seed: int) -> str:
        torch.manual_seed(seed)
        return weights_hash(start_from(f"{path}", library_spec()).classifier)

    assert hash_of(0) == hash_of(0) != hash_of(1)


def test_random_weights_are_those_of_the_factory_and_keep_the_datas_statistics() -> None:
    torch.manual_seed(3)
    start = start_from("random", make_spec())
    torch.manual_seed(3)
    assert weights_hash(start.classifier) == weights_hash(make_classifier(make_spec()))
    assert (start.spec, start.sha256, start.remark) == (make_spec(), "", "")


def without(state: dict, *names: str) -> dict:
    return {key: tensor for key, tensor in state.items() if key not in names}


MISFITS = {
    "missing": (lambda s: without(s, "features.0.bias"), r"missing: features\.0\.bias$"),
    "unexpected": (lambda s: {**s, "extra.weight": torch.zeros(1)}, r"unexpected: extra\.weight$"),
    "shape": (
        lambda s: {**s, "features.0.bias": torch.zeros(5)},
        r"of another shape: features\.0\.bias \(5,\) instead of \(64,\)$",
    ),
    "many": (
        lambda s: {"extra": torch.zeros(1)},
        r"missing: (\S+, ){9}\S+ and 40 more; unexpected: extra",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_refused_by_name(
    weights: Path, state: dict[str, torch.Tensor], misfit: str
) -> None:
    change, message = MISFITS[misfit]
    path = save(change(state), weights / "weights.pth")
    with pytest.raises(UserError, match=message) as refused:
        start_from(f"{path}", library_spec())
    assert f"model.weights: the weights of {path} do not fit {NAME}" in str(refused.value)


class Evil:
    def __reduce__(self) -> tuple:
        return Path.write_text, (Path("evil"), "code ran")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": Evil()}, "damaged, or contains more than weights, such as code"),
        ([1, 2], "contains no weights by name"),
        ({}, "contains no weights by name"),
        ({"epoch": 3}, "contains no weights by name"),
    ],
)
def test_what_is_no_weights_is_refused_and_no_code_runs(
    weights: Path, content: Any, message: str
) -> None:
    path = save(content, weights / "weights.pth")
    with pytest.raises(UserError, match=message):
        start_from(f"{path}", library_spec())
    assert not Path("evil").exists()
    torch.load(path, weights_only=False)
    assert Path("evil").exists() == ("code" in message)  # it would have run


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all " * 50])
def test_damaged_files_are_refused(weights: Path, suffix: str, content: bytes) -> None:
    path = weights / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.weights: {path}:? .*damaged"):
        start_from(f"{path}", library_spec())


def test_a_truncated_file_is_refused(weights: Path, state: dict[str, torch.Tensor]) -> None:
    path = save(state, weights / "weights.pth")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged"):
        start_from(f"{path}", library_spec())


def test_a_file_must_lie_where_dvc_sees_it(
    weights: Path, state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    inside = save(state, Path("weights.pth"))
    for path in (f"{inside}", f"{inside.absolute()}", "models/weights/../../weights.pth"):
        with pytest.raises(
            UserError, match=r"DVC would not notice changes .* move it to models/weights/weights.pth"
        ):
            start_from(path, library_spec())
    outside = save(state, tmp_path_factory.mktemp("outside") / "weights.pth")
    start = start_from(f"{outside}", library_spec())
    assert start.remark == f"{outside} is outside of the project, so DVC does not notice changes"
    # DVC may link files to its cache
    link = weights / "link.pth"
    link.symlink_to(inside.absolute())
    assert start_from(f"{link}", library_spec()).remark == ""


def test_a_missing_file_is_refused_with_those_that_are_there(weights: Path) -> None:
    with pytest.raises(
        UserError, match=r"no file models/weights/a\.pth; models/weights/ holds no weights"
    ):
        start_from("models/weights/a.pth", library_spec())
    (weights / "b.pth").touch()
    (weights / "README.md").touch()
    with pytest.raises(UserError, match=r"holds models/weights/b\.pth$"):
        start_from("models/weights/a.pth", library_spec())
    for given in ("pretrained", "models/weights", "models/weights/README.md"):
        with pytest.raises(UserError, match=rf"{given} is neither random, nor default, nor a file"):
            start_from(given, library_spec())


# model files of darkroom's


@pytest.mark.parametrize("name", ["cnn", NAME])
def test_a_model_file_gives_backbone_statistics_and_for_the_same_classes_the_head(
    weights: Path, name: str
) -> None:
    spec = library_spec(name=name)
    torch.manual_seed(1)
    model = make_classifier(spec)
    path = weights / "mine.safetensors"
    save_model(model, spec, path)
    data = library_spec(name=name, mean=(0.1, 0.1, 0.1), std=(1.0, 1.0, 1.0))
    same = start_from(f"{path}", data)
    assert weights_hash(same.classifier) == weights_hash(model)
    assert (same.spec.mean, same.sha256) == (spec.mean, file_sha256(path))
    for changes in ({"class_names": ("light", "dark")}, {"head": "mlp"}):
        other = start_from(f"{path}", library_spec(name=name, **changes)).classifier
        assert is_taken_over(other, model.network.backbone.state_dict())
        assert weights_hash(other.network.head) != weights_hash(model.network.head)


def test_a_file_of_another_model_is_refused(weights: Path, state: dict[str, torch.Tensor]) -> None:
    path = weights / "mine.safetensors"
    save_model(make_classifier(make_spec()), make_spec(), path)
    with pytest.raises(
        UserError, match=r"holds a cnn, but model\.name is resnet; set model\.name to cnn"
    ):
        start_from(f"{path}", make_spec(name="resnet"))
    with pytest.raises(UserError, match=r"do not fit cnn: .*of another shape: stages\.0\.0\.weight"):
        start_from(f"{path}", make_spec(width=5))
    foreign = save(state, weights / "foreign.pth")
    with pytest.raises(UserError, match="not a model file of darkroom, which cnn requires"):
        start_from(f"{foreign}", make_spec())


# the library's own


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place from which torchvision downloads, in the place of its server."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setattr(torch.hub, "_hub_dir", f"{tmp_path / 'hub'}")
    return folder


def serve(
    monkeypatch: pytest.MonkeyPatch, folder: Path, state: dict, name: str = "squeezenet1_1"
) -> Path:
    path = save(state, folder / "weights.pth")
    path = path.rename(folder / f"weights-{file_sha256(path)[:8]}.pth")  # as torchvision names them
    point_to(monkeypatch, path.as_uri(), name)
    return path


def point_to(monkeypatch: pytest.MonkeyPatch, url: str, name: str = "squeezenet1_1") -> None:
    weights = models.get_model_weights(name).DEFAULT
    monkeypatch.setattr(type(weights), "url", property(lambda self: url), raising=False)


def test_default_weights_are_downloaded_once(
    served: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve(monkeypatch, served, state)
    sha256 = file_sha256(path)
    first = start_from("default", library_spec())
    assert is_taken_over(first.classifier, state)
    assert (first.spec.mean, first.spec.std) == IMAGENET
    assert (first.sha256, first.remark) == (sha256, "")
    path.unlink()
    assert is_taken_over(start_from("default", library_spec()).classifier, state)


def test_a_damaged_or_failed_download_is_one_message(
    served: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve(monkeypatch, served, state)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for message in ("invalid hash value", "No such file"):
        with pytest.raises(UserError, match=rf"{NAME} could not be downloaded \(.*{message}") as refused:
            start_from("default", library_spec())
        assert "put the file into models/weights/" in str(refused.value)
        path.unlink(missing_ok=True)


def test_old_files_of_densenet_have_todays_names() -> None:
    from darkroom.models.backbones.torchvision import fitted

    old = OrderedDict({"features.denseblock1.denselayer2.norm.1.running_mean": torch.zeros(1)})
    assert list(fitted("densenet121", old, (32, 32))) == [
        "features.denseblock1.denselayer2.norm1.running_mean"
    ]
    assert list(fitted("resnet18", {"layer1.0.conv1.weight": torch.zeros(1)}, (32, 32))) == [
        "layer1.0.conv1.weight"
    ]


@pytest.mark.slow
def test_positions_of_a_vision_transformer_are_interpolated(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = models.vit_b_32(image_size=64).state_dict()
    old = {
        key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): t
        for key, t in state.items()
    }
    path = save(old, weights / "vit.pth")
    start = start_from(f"{path}", library_spec(name="torchvision:vit_b_32", input_size=(96, 96)))
    own = start.classifier.network.backbone.state_dict()
    expected = models.vision_transformer.interpolate_embeddings(96, 32, OrderedDict(state))
    assert own["encoder.pos_embedding"].shape == (1, 10, 768)
    assert all(torch.equal(own[key], expected[key]) for key in own)


@pytest.mark.slow
@pytest.mark.skipif(not MOBILENET.exists(), reason="shared/weights/mobilenet_v2.pth is not there")
def test_weights_of_mobilenet_v2_compute_the_features_of_torchvisions(weights: Path) -> None:
    path = weights / "mobilenet_v2.pth"
    path.write_bytes(MOBILENET.read_bytes())
    start = start_from(f"{path}", library_spec(name="torchvision:mobilenet_v2", input_size=(64, 64)))
    reference = models.mobilenet_v2()
    reference.load_state_dict(torch.load(path, weights_only=True))
    reference.classifier = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    transforms = models.MobileNet_V2_Weights.DEFAULT.transforms(crop_size=64, resize_size=64)
    backbone = start.classifier.network.backbone.eval()
    normalised = (images / 255 - start.classifier.mean) / start.classifier.std
    torch.testing.assert_close(normalised, transforms(images))
    assert torch.equal(backbone(normalised), reference.eval()(normalised))
