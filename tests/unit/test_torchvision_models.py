"""torchvision's models: every one makes logits, with the parameters and features of the library's."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from effort import ALL, only_with_all
from support import make_spec, weights_hash
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth

from darkroom.catalogue.counting import make_without_weights
from darkroom.errors import UserError
from darkroom.models.backbones.layers import rising
from darkroom.models.backbones.torchvision import default_side, list_names, weights_statistics
from darkroom.models.factory import make_classifier
from darkroom.models.network import backbone_layers

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")

FAMILIES = {
    "alexnet": 63,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vit_b_32": 32,
}
"""One of each, with a side that it takes."""

QUICK = ("mnasnet0_5", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small")
HEADS = ("concat_pool", "linear", "mlp")
EACH_WITH_HEADS = [
    pytest.param(name, head, marks=() if name in QUICK else pytest.mark.slow)
    for name in FAMILIES
    for head in (HEADS if ALL or name in QUICK else HEADS[:1])
]
EACH_FAMILY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


def side_of(name: str) -> int:
    """A small side that the model takes."""
    if name.startswith("vit_"):
        return int(name[-2:])
    prefixes = {"alexnet": 63, "inception": 75, "maxvit": 224}
    return next((side for prefix, side in prefixes.items() if name.startswith(prefix)), 32)


def spec_of(name: str, **changes: Any) -> Any:
    side = side_of(name)
    fixed = {"name": f"torchvision:{name}", "channels": 3, "input_size": (side, side)}
    return make_spec(**{**fixed, "class_names": ("a", "b", "c"), **changes})


def random_images(spec: Any, num_images: int = 2) -> torch.Tensor:
    shape = (num_images, spec.channels, *spec.input_size)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def makes_logits(spec: Any) -> None:
    torch.manual_seed(0)
    model = make_classifier(spec)
    images = random_images(spec)
    with torch.no_grad():
        for mode in (True, False):
            logits = model.train(mode)(images)
            assert logits.shape == (2, 3)
            assert logits.isfinite().all()
    names = [name for name, _ in model.named_parameters()]
    assert all(name.startswith(("network.backbone.", "network.head.")) for name in names)


@pytest.mark.slow
@only_with_all
@pytest.mark.parametrize("name", [name for name in list_names() if name not in FAMILIES])
def test_every_model_makes_logits_of_the_right_shape(name: str) -> None:
    """Without weights, of which some have gigabytes; one of each family computes, below."""
    spec = spec_of(name)
    model = make_without_weights(spec)
    images = torch.zeros(2, 3, *spec.input_size, device="meta")
    assert model.train()(images).shape == model.eval()(images).shape == (2, 3)
    names = [name for name, _ in model.named_parameters()]
    assert all(name.startswith(("network.backbone.", "network.head.")) for name in names)


@pytest.mark.parametrize(("name", "head"), EACH_WITH_HEADS)
def test_one_of_each_family_has_every_head(name: str, head: str) -> None:
    spec = spec_of(name, head=head)
    if head == "concat_pool" and name.startswith("vit_"):
        with pytest.raises(UserError, match=rf"model\.head: .*{name} has none; take linear or mlp"):
            make_classifier(spec)
    else:
        makes_logits(spec)


def test_a_family_each_is_tested() -> None:
    def family(name: str) -> str:
        return models.get_model_builder(name).__module__

    tested = {family(name) for name in FAMILIES}
    assert {family(name) for name in list_names()} == tested
    assert all(side == side_of(name) for name, side in FAMILIES.items())


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_the_backbone_is_the_librarys_model_without_its_last_layer(name: str) -> None:
    spec = spec_of(name)
    torch.manual_seed(0)
    backbone = make_classifier(spec).network.backbone.eval()
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit_"):
        options["image_size"] = spec.input_size[0]
    whole = models.get_model(name, **options).eval()
    whole.load_state_dict(backbone.state_dict(), strict=False)
    own, theirs = backbone.state_dict(), whole.state_dict()
    left_out = set(theirs) - set(own)
    assert not set(own) - set(theirs)
    assert {key.split(".")[0] for key in left_out if "ux" not in key} <= {
        "fc",
        "classifier",
        "head",
        "heads",
    }
    assert len([key for key in left_out if "ux" not in key]) in (1, 2)

    features = []
    last = [m for m in whole.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    kind = nn.Conv2d if name.startswith("squeezenet") else nn.Linear
    last_layer = [m for m in last if isinstance(m, kind)][-1]
    last_layer.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    images = torch.rand(2, 3, *spec.input_size)
    with torch.no_grad():
        whole(images)
        expected = features[0].mean(dim=(2, 3)) if features[0].ndim == 4 else features[0]
        torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)


POOLS_ONLY = [
    name
    for name in FAMILIES
    if not name.startswith(("vit_", "vgg", "alexnet", "convnext", "maxvit", "mobilenet_v3"))
]
"""Those whose vector is nothing but the map's average."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in POOLS_ONLY]
)
def test_the_map_is_what_the_library_pools(name: str) -> None:
    torch.manual_seed(0)
    vector = make_classifier(spec_of(name)).network.backbone.eval()
    maps = make_classifier(spec_of(name, head="concat_pool")).network.backbone.eval()
    maps.load_state_dict(vector.state_dict())  # also: the same names
    images = torch.rand(2, 3, *spec_of(name).input_size)
    with torch.no_grad():
        torch.testing.assert_close(maps(images).mean(dim=(2, 3)), vector(images))


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "densenet121", "swin_t", "vit_b_16"])
def test_the_number_of_parameters_is_the_published_one(name: str) -> None:
    side = default_side(name)
    class_names = tuple(str(index) for index in range(1000))
    model = make_without_weights(spec_of(name, class_names=class_names, input_size=(side, side)))
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert sum(parameter.numel() for parameter in model.parameters()) == published


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_layers_hold_every_parameter_of_the_backbone_once_from_the_input_on(name: str) -> None:
    network = make_without_weights(spec_of(name)).network
    layers = backbone_layers(network)
    names = [key for layer in layers for key in layer]
    assert sorted(names) == sorted(k for k, _ in network.named_parameters() if k.startswith("backbone."))
    assert len(layers) >= 7
    assert all(any(network.get_parameter(key).ndim > 1 for key in layer) for layer in layers)


@pytest.mark.slow
def test_layers_are_blocks() -> None:
    expected = {
        "resnet18": (9, "backbone.conv1.weight", "backbone.layer4.1.bn2.bias"),
        "mobilenet_v2": (19, "backbone.features.0.0.weight", "backbone.features.18.1.bias"),
        "vit_b_32": (13, "backbone.class_token", "backbone.encoder.ln.bias"),
        "swin_t": (16, "backbone.features.0.0.weight", "backbone.norm.bias"),
        "vgg11": (10, "backbone.features.0.weight", "backbone.classifier.3.bias"),
        "googlenet": (12, "backbone.conv1.conv.weight", "backbone.inception5b.branch4.1.bn.bias"),
    }
    for name, (num_layers, first, last) in expected.items():
        layers = backbone_layers(make_without_weights(spec_of(name)).network)
        assert (len(layers), layers[0][0], layers[-1][-1]) == (num_layers, first, last), name
    own = {"mlp": (2, {}), "cnn": (4, {}), "resnet": (7, {}), "vit": (3, {"patch_size": 4})}
    for name, (num_layers, more) in own.items():
        spec = make_spec(name=name, **more)
        assert len(backbone_layers(make_without_weights(spec).network)) == num_layers, name


@pytest.mark.slow
def test_stochastic_depth_is_what_params_say_and_not_the_librarys() -> None:
    for probability in (0.0, 0.3):
        model = make_without_weights(spec_of("convnext_tiny", stochastic_depth=probability))
        layers = [m for m in model.modules() if isinstance(m, StochasticDepth)]
        assert [layer.p for layer in layers] == rising(probability, 18)
    assert models.convnext_tiny().features[7][2].stochastic_depth.p > 0
    with pytest.raises(
        UserError, match=r"model\.stochastic_depth: 0\.3 .*torchvision:resnet18 does not"
    ):
        make_classifier(spec_of("resnet18", stochastic_depth=0.3))


def test_dropout_before_the_last_layer_is_the_heads() -> None:
    model = make_without_weights(spec_of("mobilenet_v2", dropout=0.6))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.6]
    vgg = make_without_weights(spec_of("vgg11", dropout=0.6))
    assert [m.p for m in vgg.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.6]  # one lies between


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("squeezenet1_1", (4, 7), "needs at least 17 x 17"),
        ("alexnet", (20, 20), "needs at least 63 x 63"),
        ("vit_b_16", (32, 40), "square images whose side is a multiple of 16"),
        ("vit_b_16", (40, 40), "square images whose side is a multiple of 16"),
        ("maxvit_t", (64, 64), "not divisible by partition size 7"),
    ],
)
def test_unfit_sizes_are_refused_with_those_that_fit(name: str, size: tuple, message: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*{message}") as refused:
        make_without_weights(spec_of(name, input_size=size))
    assert "prepare.image_size" in str(refused.value)
    assert f"{size[0]} x {size[1]}" in str(refused.value)


def test_statistics_are_the_weights_own() -> None:
    assert weights_statistics("resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert weights_statistics("efficientnet_v2_l") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_googlenets_own_change_of_statistics_is_ours() -> None:
    images = torch.rand(1, 3, 8, 8)
    with torch.device("meta"):
        whole = models.googlenet(transform_input=True, init_weights=False)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in weights_statistics("resnet18"))
    theirs = whole._transform_input((images - mean) / std)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in weights_statistics("googlenet"))
    torch.testing.assert_close((images - mean) / std, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_one_seed_gives_one_network_and_one_step(name: str) -> None:
    """test_every_model.py shows it of the others."""
    spec = spec_of(name, dropout=0.1)

    def hashes(seed: int) -> tuple[str, str]:
        torch.manual_seed(seed)
        model = make_classifier(spec)
        before = weights_hash(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        F.cross_entropy(model(random_images(spec)), torch.tensor([0, 1])).backward()
        optimizer.step()
        return before, weights_hash(model)

    assert hashes(0) == hashes(0)
    assert not set(hashes(0)) & set(hashes(1))
