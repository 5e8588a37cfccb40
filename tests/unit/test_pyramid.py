"""Any backbone as the encoder of a U-Net, with weights of classifiers, and what is refused."""

from pathlib import Path

import pytest
import torch
from support import make_spec
from torchvision import models

from darkroom.errors import UserError
from darkroom.models.backbones.pyramid import PyramidUNet, find_stages
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from

MOBILENET = "torchvision:mobilenet_v2"


def mask_spec(name: str = MOBILENET, **changes: object) -> ModelSpec:
    values = {"input_size": (64, 96), "channels": 3, "class_names": ("sky", "road", "car"), **changes}
    return make_spec(name=name, target="mask", **values)


def encoder_and_decoder(spec: ModelSpec) -> PyramidUNet:
    backbone = make_classifier(spec).network.backbone
    assert isinstance(backbone, PyramidUNet)
    return backbone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "halvings"),
    [
        # tables 2 of the papers: the last map before each halving
        (MOBILENET, [16, 24, 32, 96, 1280], [1, 2, 3, 4, 5]),
        ("torchvision:resnet18", [64, 64, 128, 256, 512], [1, 2, 3, 4, 5]),
        ("torchvision:mobilenet_v3_small", [16, 16, 24, 48, 576], [1, 2, 3, 4, 5]),
        ("torchvision:convnext_tiny", [96, 192, 384, 768], [2, 3, 4, 5]),
        ("cnn", [4, 8, 16], [0, 1, 2]),
        ("resnet", [8, 16, 32], [0, 1, 2]),
    ],
)
def test_maps_of_each_size_are_found_and_the_size_is_restored(
    name: str, channels: list[int], halvings: list[int]
) -> None:
    spec = mask_spec(name, **({"width": 8, "depth": 1} if name == "resnet" else {"depth": 3}))
    unet = encoder_and_decoder(spec)
    maps = unet.eval().encoder(torch.zeros(1, 3, 64, 96))
    assert [part.shape[1] for part in maps.values()] == channels
    sizes = [(64 >> times, 96 >> times) for times in halvings]
    assert [tuple(part.shape[2:]) for part in maps.values()] == sizes
    logits = make_classifier(spec).eval()(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert logits.shape == (2, 3, 64, 96)


def test_the_encoder_computes_what_the_library_computes() -> None:
    torch.manual_seed(0)
    whole = models.mobilenet_v2(weights=None).eval()
    features, image = whole.features, torch.rand(2, 3, 64, 96)
    expected, maps = [], image
    for number, block in enumerate(features):
        maps = block(maps)
        if number in (1, 3, 6, 13, 18):
            expected.append(maps)
    unet = PyramidUNet(features, find_stages("mobilenet_v2", features, image[:1])).eval()
    found = list(unet.encoder(image).values())
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.slow
def test_weights_of_a_library_start_the_encoder_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    library = models.mobilenet_v2(weights=None).state_dict()
    torch.save(library, path := tmp_path / "weights.pth")
    start = start_from(f"{path}", mask_spec())
    backbone = start.classifier.network.backbone
    assert isinstance(backbone, PyramidUNet)
    encoder = backbone.encoder.state_dict()
    assert set(library) - set(encoder) == {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(tensor, library[name]) for name, tensor in encoder.items())
    assert start.spec.mean == (0.485, 0.456, 0.406)
    torch.manual_seed(1)
    other = start_from(f"{path}", mask_spec()).classifier.network.backbone
    assert isinstance(other, PyramidUNet)
    weights = [unet.decoder.ups[0].up.weight for unet in (backbone, other)]
    assert not torch.equal(*weights)


def test_a_trained_one_starts_another_and_keeps_its_logits(tmp_path: Path) -> None:
    spec, images = mask_spec("cnn", depth=3), torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    torch.manual_seed(0)
    save_model(make_classifier(spec), spec, path := tmp_path / "model.safetensors")
    loaded, written = load_model(path)
    started = start_from(f"{path}", spec).classifier
    assert written.name == "cnn"
    assert torch.equal(loaded.eval()(images), started.eval()(images))
    assert loaded(images).abs().sum() > 0


def test_a_classifier_of_darkroom_starts_the_encoder(tmp_path: Path) -> None:
    spec = mask_spec("cnn", depth=3)
    of_classes = make_spec(depth=3, channels=3, input_size=(64, 96))
    classifier = make_classifier(of_classes)
    save_model(classifier, of_classes, path := tmp_path / "model.safetensors")
    backbone = start_from(f"{path}", spec).classifier.network.backbone
    assert isinstance(backbone, PyramidUNet)
    for name, tensor in classifier.network.backbone.state_dict().items():
        assert torch.equal(backbone.encoder.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("mlp", (64, 96), "mlp does not halve images step by step"),
        ("vit", (64, 96), "vit does not halve images step by step"),
        ("torchvision:swin_t", (64, 96), "does not halve images step by step"),
        (MOBILENET, (60, 96), "makes maps of 2 x 3 from images of 60 x 96"),
        ("torchvision:alexnet", (64, 96), "alexnet makes maps of 1 x 2 from images of 64 x 96"),
    ],
)
def test_others_are_refused(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_classifier(mask_spec(name, input_size=size, patch_size=4))
    assert message in str(caught.value)
    assert "choose" in str(caught.value)
