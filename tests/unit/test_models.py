"""Networks, the classifier around them, and model files."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import make_spec, output_of, start_python, weights_hash
from torch import nn

from darkroom.digests import file_sha256
from darkroom.errors import UserError
from darkroom.models.classifier import Classifier
from darkroom.models.factory import OWN_BACKBONES, make_classifier
from darkroom.models.file import load_model, load_spec, save_model
from darkroom.models.heads import LinearHead
from darkroom.models.network import Network

RGB_32 = {"channels": 3, "input_size": (32, 32)}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_images(spec: Any, num_images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (num_images, spec.channels, *spec.input_size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", OWN_BACKBONES)
@pytest.mark.parametrize("input_size", [(8, 8), (9, 13), (32, 32)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (4, 2), (5, 3), (16, 1)])
def test_logits_have_a_column_a_class_and_gradients_reach_every_parameter(
    name: str, input_size: tuple[int, int], channels: int, width: int, depth: int
) -> None:
    if name == "unet":  # halves both sides `depth` times
        input_size = (8, 16)
    class_names = tuple("abcdefg"[: 2 + depth])
    spec = make_spec(
        name=name,
        input_size=input_size,
        channels=channels,
        width=max(width, 4) if name == "vit" else width,  # one number alone is normalised to 0
        depth=depth,
        patch_size=math.gcd(*input_size) // 2 or 1 if name == "vit" else None,
        class_names=class_names,
    )
    torch.manual_seed(0)
    model = make_classifier(spec)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # resnet starts some at zero, which stops gradients
            nn.init.ones_(module.weight)
    images = random_images(spec, 16)
    logits = model(images)
    assert logits.shape == (16, len(class_names))
    F.cross_entropy(logits, torch.arange(16) % len(class_names)).backward()
    unreached = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []
    assert model.eval()(images[:1]).shape == (1, len(class_names))


def test_every_residual_block_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    network = make_classifier(make_spec(name="resnet", depth=3, width=8)).network.eval()
    x = torch.rand(2, 8, 8, 8)
    assert torch.equal(network.backbone.blocks[0](x), x)
    nn.init.ones_(network.backbone.blocks[0].bn2.weight)
    assert not torch.equal(network.backbone.blocks[0](x), x)


def conv_bn(in_channels: int, out_channels: int, side: int) -> int:
    return in_channels * out_channels * side**2 + 2 * out_channels


def test_resnet_20_has_the_layers_and_parameters_of_the_paper() -> None:
    spec = make_spec(
        name="resnet", width=16, depth=3, **RGB_32, class_names=tuple(f"class {i}" for i in range(10))
    )
    network = make_classifier(spec).network
    stem, head = conv_bn(3, 16, 3), 64 * 10 + 10
    first = 3 * 2 * conv_bn(16, 16, 3)
    second = conv_bn(16, 32, 3) + 5 * conv_bn(32, 32, 3) + conv_bn(16, 32, 1)
    third = conv_bn(32, 64, 3) + 5 * conv_bn(64, 64, 3) + conv_bn(32, 64, 1)
    assert count(network) == stem + first + second + third + head == 272_474
    # 0.27 million in table 6 of the paper, whose shortcuts have no parameters
    assert count(network) - conv_bn(16, 32, 1) - conv_bn(32, 64, 1) == 269_722
    weighted = [
        m
        for m in network.modules()
        if (isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)) or isinstance(m, nn.Linear)
    ]
    assert len(weighted) == 20


def test_resnet_halves_the_image_twice() -> None:
    network = make_classifier(make_spec(name="resnet", width=2, depth=2, **RGB_32)).network
    sides, x = [], torch.zeros(1, 2, 32, 32)
    for block in network.backbone.blocks:
        x = block(x)
        sides.append((x.shape[1], x.shape[2]))
    assert sides == [(2, 32), (2, 32), (4, 16), (4, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize("name", OWN_BACKBONES)
def test_dropout_acts_in_training_only(name: str) -> None:
    spec = make_spec(name=name, dropout=0.5, width=16, patch_size=2 if name == "vit" else None)
    model = make_classifier(spec)
    images = random_images(spec, 4)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_the_smallest_image_of_a_cnn_is_named() -> None:
    for depth in range(1, 6):
        side = 2 ** (depth - 1)
        make_classifier(make_spec(width=1, depth=depth, input_size=(side, side)))
        if depth > 1:
            with pytest.raises(UserError, match=f"at least {side} x {side} pixels"):
                make_classifier(make_spec(width=1, depth=depth, input_size=(side - 1, side)))


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(depth=4, input_size=(4, 7)),
        make_spec(name="torchvision:squeezenet1_1", channels=3, input_size=(4, 7)),
    ],
    ids=lambda spec: spec.name,
)
def test_too_small_images_are_refused_by_model_and_size(spec: Any) -> None:
    with pytest.raises(UserError) as refused:
        make_classifier(spec)
    message = str(refused.value)
    assert spec.name in message
    assert "4 x 7" in message
    assert "prepare.image_size" in message


@pytest.mark.parametrize("spec", [make_spec(), make_spec(name="resnet")], ids=lambda spec: spec.name)
def test_the_size_check_leaves_no_trace(spec: Any) -> None:
    torch.manual_seed(5)
    model = make_classifier(spec)
    next_draw = torch.rand(3)
    torch.manual_seed(5)
    network = OWN_BACKBONES[spec.name](spec)
    head = LinearHead(model.network.head.linear.in_features, 2, spec.dropout)
    assert torch.equal(torch.rand(3), next_draw)
    assert weights_hash(model.network) == weights_hash(Network(network, head))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("given", "meant"),
    [("resnt18", "resnet18"), ("EfficientNetB0", "efficientnet_b0"), ("mobilenetv2", "mobilenet_v2")],
)
def test_an_unknown_torchvision_name_is_refused_with_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"model\.name: .*{given}.*did you mean {meant}\?"):
        make_classifier(make_spec(name=f"torchvision:{given}", channels=3))


@pytest.mark.parametrize("name", ["zzzzzzzz", "get_model", "fasterrcnn_resnet50_fpn", "raft_large"])
def test_what_is_no_classification_model_is_refused_with_a_list(name: str) -> None:
    with pytest.raises(UserError, match=rf"model {name} of images[.;].*The models are: .*resnet18, "):
        make_classifier(make_spec(name=f"torchvision:{name}", channels=3))


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_resnet18_takes_grey_and_rgb(channels: int) -> None:
    spec = make_spec(
        name="torchvision:resnet18", channels=channels, input_size=(32, 32), class_names=("a", "b", "c")
    )
    model = make_classifier(spec)
    logits = model(random_images(spec, 4))
    assert logits.shape == (4, 3)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    # 11,689,512 with a head for 1,000 classes (torchvision's documentation)
    assert count(model) == 11_689_512 - (512 * 1000 + 1000) + (512 * 3 + 3)


def test_grey_images_are_to_torchvision_as_rgb_ones_with_equal_channels() -> None:
    torch.manual_seed(0)
    spec = make_spec(name="torchvision:resnet18", input_size=(32, 32), mean=(0.4,), std=(0.2,))
    model = make_classifier(spec).eval()
    images = random_images(spec, 2)
    network = Network(model.network.backbone, model.network.head)
    rgb = Classifier(network, mean=[0.4] * 3, std=[0.2] * 3).eval()
    assert torch.equal(model(images), rgb(images.repeat(1, 3, 1, 1)))


def test_grey_images_take_the_three_means_of_weights() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    torch.manual_seed(0)
    spec = make_spec(name="torchvision:resnet18", input_size=(32, 32), mean=mean, std=std)
    model = make_classifier(spec).eval()
    images = random_images(spec, 2)
    rgb = Classifier(Network(model.network.backbone, model.network.head), mean, std).eval()
    assert torch.equal(model(images), rgb(images.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_torchvisions(dtype: torch.dtype, channels: int) -> None:
    from torchvision.transforms.v2 import functional as tv  # late: it costs seconds

    spec = make_spec(channels=channels, input_size=(16, 11))
    images = random_images(spec, 5).to(dtype)
    actual = Classifier(nn.Identity(), spec.mean, spec.std)(images)
    expected = tv.normalize(images.float() / 255, list(spec.mean), list(spec.std))
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)
    other = Classifier(nn.Identity(), [m + 0.001 for m in spec.mean], spec.std)(images)
    assert not torch.allclose(other, expected)


def test_normalisation_travels_with_the_weights() -> None:
    spec = make_spec()
    state = make_classifier(spec).state_dict()
    assert state["mean"].flatten().tolist() == pytest.approx(spec.mean)
    assert state["std"].flatten().tolist() == pytest.approx(spec.std)


SAVED = [
    make_spec(class_names=("Ä <b>&", "日本")),
    make_spec(name="resnet", channels=3, input_size=(9, 12)),
    make_spec(name="torchvision:squeezenet1_1", channels=3, input_size=(32, 32)),
    make_spec(name="resnet", activation="silu", pooling="avg"),
]


@pytest.mark.parametrize("spec", SAVED, ids=lambda spec: f"{spec.name} {spec.pooling}")
def test_a_saved_model_comes_back_equal(spec: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = make_classifier(spec)
    images = random_images(spec, 4)
    model(images)  # so that the running statistics are not at their start
    path = tmp_path / "not" / "yet" / "model.safetensors"
    save_model(model, spec, path)
    torch.manual_seed(2)
    loaded, loaded_spec = load_model(path)
    assert loaded_spec == load_spec(path) == spec
    assert weights_hash(loaded) == weights_hash(model)
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(images), model.eval()(images))


def save_filled(folder: Path, *fillings: float) -> None:
    """Saves a cnn and a resnet for each filling, with weights that no generator drew."""
    for filling in fillings:
        for name in ("cnn", "resnet"):
            spec = make_spec(name=name, training={"a": 1, "z.b": None}, environment={"p": "1", "o": "2"})
            model = make_classifier(spec)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(torch.arange(parameter.numel()).view_as(parameter) * filling)
            save_model(model, spec, folder / f"{name}-{filling}.safetensors")


@pytest.mark.slow
def test_equal_models_are_equal_bytes_in_every_folder_and_process(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "deeper"
    elsewhere.mkdir(parents=True)
    # the other process has done other work before
    code = (
        "from pathlib import Path; from test_models import save_filled; save_filled(Path(), 0.5, 0.25)"
    )
    hash_seed = 1 if os.environ.get("PYTHONHASHSEED") != "1" else 2
    output_of(start_python(code, cwd=elsewhere, PYTHONHASHSEED=str(hash_seed)))
    save_filled(tmp_path / "here", 0.25)
    for name in ("cnn", "resnet"):
        bytes_here = (tmp_path / "here" / f"{name}-0.25.safetensors").read_bytes()
        assert bytes_here == (elsewhere / f"{name}-0.25.safetensors").read_bytes()
        assert bytes_here != (elsewhere / f"{name}-0.5.safetensors").read_bytes()
        assert str(tmp_path).encode() not in bytes_here


def test_another_description_is_other_bytes(tmp_path: Path) -> None:
    model = make_classifier(make_spec())
    for name, spec in (("a", make_spec()), ("b", make_spec(class_names=("light", "dark")))):
        save_model(model, spec, tmp_path / name)
    assert file_sha256(tmp_path / "a") != file_sha256(tmp_path / "b")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(make_classifier(make_spec()), make_spec(), path)
    return path


def described(path: Path, metadata: dict[str, str] | None) -> None:
    """Writes the tensors of ``path`` again, with other metadata."""
    save_file(load_file(path), path, metadata)


def truncated(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["network.head.linear.bias"]
    save_file(tensors, path, {"darkroom": json.dumps(make_spec().to_dict())})


FUTURE = {**make_spec().to_dict(), "format_version": 3}
DAMAGES = {
    "missing": (lambda path: path.unlink(), "file not found.*dvc repro train"),
    "empty": (lambda path: truncated(path, 0), "damaged"),
    "cut in the header": (lambda path: truncated(path, 0.1), "damaged"),
    "cut in the weights": (lambda path: truncated(path, 0.9), "damaged"),
    "text": (lambda path: path.write_text("this is not a model " * 50), "damaged"),
    "foreign": (lambda path: described(path, None), "not a model file of darkroom"),
    "foreign with metadata": (
        lambda path: described(path, {"format": "pt"}),
        "not a model file of darkroom",
    ),
    "of another version": (
        lambda path: described(path, {"darkroom": json.dumps(FUTURE)}),
        "format 3, but this version of darkroom reads 2",
    ),
    "not JSON": (lambda path: described(path, {"darkroom": "{"}), "model.safetensors"),
    "another's JSON": (lambda path: described(path, {"darkroom": "[1]"}), "model.safetensors"),
    "lacking a field": (
        lambda path: described(path, {"darkroom": '{"format_version": 1}'}),
        "model.safetensors",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_model_is_refused_by_name(saved: Path, damage: str) -> None:
    assert load_spec(saved) == make_spec()
    do, message = DAMAGES[damage]
    do(saved)
    for load in (load_spec, load_model):
        with pytest.raises(UserError, match=message) as refused:
            load(saved)
        assert str(saved) in str(refused.value)


def test_a_model_file_that_lacks_a_weight_is_refused_by_name(saved: Path) -> None:
    without_a_tensor(saved)
    with pytest.raises(UserError, match="safetensors"):
        load_model(saved)


# the digest that the file holds of itself


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place(saved: Path) -> None:
    content = saved.read_bytes()
    with safe_open(saved, framework="numpy") as file:
        sha256 = json.loads(file.metadata()["darkroom"])["sha256"]
    blanked = content.replace(sha256.encode(), b"0" * 64)
    assert content.count(sha256.encode()) == 1
    assert hashlib.sha256(blanked).hexdigest() == sha256


def test_a_flip_anywhere_is_refused_by_name(saved: Path) -> None:
    whole = saved.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 60).tolist()
    for place in {*range(24), *places, len(whole) - 1}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        saved.write_bytes(damaged)
        with pytest.raises(UserError) as refused:
            load_model(saved)
        assert str(refused.value).startswith(f"{saved}: ")
    saved.write_bytes(whole)
    load_model(saved)


def test_a_cut_or_longer_file_is_refused_by_name(saved: Path) -> None:
    whole = saved.read_bytes()
    for content in (*(whole[:length] for length in range(0, len(whole), 499)), whole + b"\0"):
        saved.write_bytes(content)
        with pytest.raises(UserError) as refused:
            load_model(saved)
        assert str(refused.value).startswith(f"{saved}: ")


def test_a_file_of_an_earlier_version_is_described_and_not_used(saved: Path) -> None:
    described(saved, {"darkroom": json.dumps({**make_spec().to_dict(), "format_version": 1})})
    assert load_spec(saved) == make_spec(format_version=1)
    with pytest.raises(
        UserError, match=r"an earlier version of darkroom; run .*`dvc repro --force train`"
    ):
        load_model(saved)


def test_names_that_look_like_a_digest_do_not_confuse_it(tmp_path: Path) -> None:
    zeros = "0" * 64
    names = (f'"sha256": "{zeros}"', f'\\"sha256\\": \\"{zeros}\\"', zeros)
    spec = make_spec(class_names=names, training={"model.weights.sha256": zeros})
    save_model(make_classifier(spec), spec, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors")[1] == spec
