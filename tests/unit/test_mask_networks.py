"""Networks of libraries that were made for masks: features, weights, sizes, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support import make_spec
from torch import Tensor
from torchvision import models

from darkroom.errors import UserError
from darkroom.export.source import Source
from darkroom.models.backbones import torchvision_masks
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from

LRASPP = "lraspp_mobilenet_v3_large"
SMP = "smp:unet.resnet18"
DEEPLAB = "deeplabv3_mobilenet_v3_large"


def mask_spec(name: str, **changes: object) -> ModelSpec:
    values = {"input_size": (64, 96), "channels": 3, "class_names": ("sky", "road", "car"), **changes}
    return make_spec(name=name, target="mask", **values)


def whole_network(name: str, **options: object) -> torch.nn.Module:
    """The library's own network for three classes, after a batch that moved its running statistics."""
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=3, **options)
    network.train()
    with torch.no_grad():
        network(torch.rand(4, 3, 64, 96))
    return network.eval()


def last_layer(name: str, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The weight and the bias of the last layer, which for LR-ASPP is the sum of two."""
    if name != LRASPP:
        number = max(int(key.split(".")[1]) for key in tensors if key.startswith("classifier."))
        return tensors[f"classifier.{number}.weight"], tensors[f"classifier.{number}.bias"]
    low, high = (f"classifier.{part}_classifier" for part in ("low", "high"))
    weight = torch.cat([tensors[f"{low}.weight"], tensors[f"{high}.weight"]], dim=1)
    return weight, tensors[f"{low}.bias"] + tensors[f"{high}.bias"]


def started(name: str, tensors: dict[str, Tensor], folder: Path) -> Classifier:
    torch.save(tensors, path := folder / "weights.pth")
    return start_from(f"{path}", mask_spec(f"torchvision:{name}")).classifier.eval()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [
        LRASPP,
        DEEPLAB,
        "fcn_resnet50",
        "deeplabv3_resnet50",
    ],
)
def test_with_the_librarys_weights_it_computes_what_the_library_computes(
    name: str, tmp_path: Path
) -> None:
    whole = whole_network(name)
    tensors = whole.state_dict()
    classifier = started(name, tensors, tmp_path)
    linear = classifier.network.head.linear
    for own, of_library in zip((linear.weight, linear.bias), last_layer(name, tensors), strict=True):
        own.copy_(of_library)
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    expected = whole((images / 255 - mean) / std)["out"]
    found = classifier(images)
    assert found.shape == expected.shape == (2, 3, 64, 96)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3
    linear.bias[0] += 0.1
    assert not torch.allclose(classifier(images), expected, rtol=1e-4, atol=1e-4)


def test_the_auxiliary_classifier_and_the_last_layer_are_left_out(tmp_path: Path) -> None:
    tensors = whole_network(DEEPLAB, aux_loss=True).state_dict()
    backbone = started(DEEPLAB, tensors, tmp_path).network.backbone.state_dict()
    left_out = {name for name in tensors if name not in backbone}
    assert {name.rpartition(".")[0] for name in left_out if "aux" not in name} == {"classifier.4"}
    assert any(name.startswith("aux_classifier.") for name in left_out)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in backbone.items())


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    tensors = whole_network(LRASPP).state_dict()
    del tensors["classifier.cbr.0.weight"]
    with pytest.raises(UserError, match=r"missing: classifier\.cbr\.0\.weight"):
        started(LRASPP, tensors, tmp_path)


def test_every_one_of_torchvision_is_known() -> None:
    assert torchvision_masks.list_names() == sorted(
        name for name in models.list_models() if name.startswith(("deeplab", "fcn_", "lraspp"))
    )


def test_sides_that_it_cannot_restore_are_refused() -> None:
    with pytest.raises(UserError, match=r"maps of 8 x 12 from images of 60 x 96; .* multiples of 8"):
        make_classifier(mask_spec(f"torchvision:{LRASPP}", input_size=(60, 96)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"torchvision:{LRASPP}", SMP])
def test_its_onnx_file_agrees_at_every_pixel(name: str) -> None:
    if name == SMP:
        pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    spec = mask_spec(name)
    classifier = make_classifier(spec)
    images = torch.randint(256, (3, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        classifier.train()(images)  # moves the running statistics
        expected = classifier.eval()(images)
    session = onnxruntime.InferenceSession(Source(classifier, spec).onnx)
    logits, probabilities = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, expected.softmax(dim=1).numpy(), atol=1e-5)
    assert np.ptp(expected.numpy()) > 0.1


def test_a_network_of_a_file_with_features_for_each_pixel_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/train").mkdir(parents=True)
    (tmp_path / "own/train/tiny.py").write_text(
        "from torch import nn\n\n\ndef whole(channels):\n"
        "    half_size = nn.Conv2d(channels, 4, 3, stride=2, padding=1)\n"
        "    return nn.Sequential(half_size, nn.Upsample(scale_factor=2))\n"
        "\n\ndef half(channels):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, padding=1))\n"
        "\n\ndef without_parts(channels):\n"
        "    return nn.Conv2d(channels, 4, 3, stride=2, padding=1)\n"
    )
    names = {}
    for function in ("whole", "half"):
        classifier = make_classifier(mask_spec(f"file:own/train/tiny.py:{function}"))
        names[function] = {name.split(".")[2] for name in classifier.state_dict() if "backbone" in name}
        assert classifier.eval()(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 3, 64, 96)
    assert names == {"whole": {"0"}, "half": {"encoder", "decoder"}}
    with pytest.raises(UserError, match="does not halve images step by step"):
        make_classifier(mask_spec("file:own/train/tiny.py:without_parts"))


# segmentation_models_pytorch


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match=r"pip install 'darkroom\[smp\]'"):
        make_classifier(mask_spec(SMP))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["unet.resnet18", "deeplabv3plus.mobilenet_v2"])
def test_features_are_those_of_segmentation_models_pytorch(name: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    whole = smp.create_model(*name.split("."), None, classes=3).train()
    whole(torch.rand(4, 3, 64, 96))
    torch.save(whole.eval().state_dict(), path := tmp_path / "weights.pth")
    classifier = start_from(f"{path}", mask_spec(f"smp:{name}")).classifier.eval()
    images = torch.rand(2, 3, 64, 96)
    found = classifier.network.backbone(images)
    assert torch.equal(found, whole.decoder(whole.encoder(images)))
    assert not torch.equal(found, whole.decoder(whole.encoder(images.flip(3))))
    assert classifier(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 3, 64, 96)


@pytest.mark.slow
def test_a_classifiers_weights_start_the_encoder_alone(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    tensors = models.resnet18(weights=None).state_dict()
    torch.save(tensors, path := tmp_path / "resnet18.pth")
    decoders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        backbone = start_from(f"{path}", mask_spec(SMP)).classifier.network.backbone
        encoder = backbone.encoder.state_dict()
        assert set(tensors) - set(encoder) == {"fc.weight", "fc.bias"}
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in encoder.items())
        decoders.append(backbone.decoder.blocks[0].conv1[0].weight)
    assert not torch.equal(*decoders)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp:unte.resnet18", r"no architecture unte; .*; did you mean unet\?"),
        ("smp:unet.resnet19", r"no encoder resnet19; did you mean resnet18\?"),
        ("smp:unet", r"no encoder without a name"),
        ("smp:pan.mit_b0x", r"no encoder mit_b0x; did you mean mit_b0\?"),
    ],
)
def test_names_that_it_does_not_have_are_refused(name: str, message: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    with pytest.raises(UserError, match=message):
        make_classifier(mask_spec(name))
