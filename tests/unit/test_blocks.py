"""Activations, poolings and initial weights of darkroom's own networks."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support import make_spec, weights_hash
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.backbones.activations import (
    ACTIVATIONS,
    GAINS,
    USUAL_ACTIVATION,
    USUAL_POOLING,
    make_activation,
)
from darkroom.models.backbones.cnn import CNN
from darkroom.models.backbones.shapes import least_size, output_size
from darkroom.models.factory import OWN_BACKBONES, make_classifier
from darkroom.models.file import save_model
from darkroom.models.initialisation import RULES, initialise
from darkroom.models.spec import ModelSpec
from darkroom.models.weights import start_from
from darkroom.targets import to_file

FORMULAS = {
    "relu": lambda z: z.clamp(min=0),
    "leaky_relu": lambda z: torch.where(z > 0, z, z / 100),
    "tanh": lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp()),
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + (-z).exp()),
}


def own_spec(name: str, **changes: Any) -> ModelSpec:
    sizes = {"width": 32, "patch_size": 4} if name == "vit" else {}
    return make_spec(**{"name": name, **sizes, **changes})


def network(seed: int = 0, init: str | None = None, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    return start_from("random", own_spec(**{"name": "cnn", **changes}), init).classifier.network


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas_and_gains_keep_the_variance(name: str) -> None:
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    values = make_activation(name)(z)
    torch.testing.assert_close(values, FORMULAS[name](z))
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    kept = 1 / math.sqrt(torch.trapezoid(density * values.square(), z))
    # torch's gain of tanh, 5 / 3, is larger than what one layer needs
    assert GAINS[name] == pytest.approx(kept, rel=0.05 if name == "tanh" else 1e-6)


@pytest.mark.parametrize("name", OWN_BACKBONES)
def test_every_activation_of_a_backbone_is_the_chosen_one(name: str) -> None:
    def activations(**changes: Any) -> set[type]:
        kinds = {type(module) for module in network(name=name, **changes).backbone.modules()}
        return kinds & {type(make_activation(each)) for each in ACTIVATIONS}

    assert activations() == {type(make_activation(USUAL_ACTIVATION[name]))}
    for chosen in ACTIVATIONS:
        assert activations(activation=chosen) == {type(make_activation(chosen))}
        assert weights_hash(network(name=name, activation=chosen)) == weights_hash(network(name=name))


@pytest.mark.parametrize("pooling", ["max", "avg", "stride"])
def test_a_cnn_halves_maps_as_its_windows_say(pooling: str) -> None:
    windows = CNN.windows(3, pooling)
    for side in (4, 7, 9, 13):
        spec = own_spec("cnn", depth=3, pooling=pooling, input_size=(side, side))
        features = make_classifier(spec).eval().network.features(torch.zeros(1, 1, side, side))
        assert features.shape[2:] == (output_size(side, windows),) * 2
    assert least_size(windows) == (1 if pooling == "stride" else 4)


def test_poolings_are_what_they_are_called() -> None:
    x = torch.randn(2, 1, 8, 8)
    for name in ("cnn", "resnet"):
        kinds = {
            kind: network(name=name, pooling=kind).backbone.eval() for kind in ("max", "avg", "stride")
        }
        strided = {
            kind: sum(m.stride == (2, 2) for m in net.modules() if isinstance(m, nn.Conv2d))
            for kind, net in kinds.items()
        }
        assert strided == {"max": 0, "avg": 0, "stride": 1 if name == "cnn" else 4}
        assert isinstance(poolings(kinds["max"]), nn.MaxPool2d)
        assert isinstance(poolings(kinds["avg"]), nn.AvgPool2d)
        usual = network(name=name).backbone.eval()
        assert torch.equal(usual(x), kinds[USUAL_POOLING[name]](x))
        assert not torch.equal(kinds["max"](x), kinds["avg"](x))


def poolings(backbone: nn.Module) -> nn.Module:
    return next(m for m in backbone.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d))


def test_images_that_a_pooled_resnet_makes_vanish_are_refused() -> None:
    make_classifier(own_spec("resnet", input_size=(3, 3)))
    make_classifier(own_spec("resnet", input_size=(4, 4), pooling="max"))
    with pytest.raises(UserError, match=r"does not support images of 3 x 3 .* at least 4 x 4"):
        make_classifier(own_spec("resnet", input_size=(3, 3), pooling="max"))


# initial weights


def layers_of(backbone: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in backbone.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_kaiming_and_xavier_are_those_of_torch() -> None:
    layers = layers_of(network(init="kaiming", activation="leaky_relu").backbone)
    for layer, ours in zip(layers, [layer.weight.clone() for layer in layers], strict=True):
        fan_in = ours[0].numel()
        expected = torch.empty_like(ours)
        torch.manual_seed(3)
        nn.init.kaiming_normal_(expected, 0.01, nonlinearity="leaky_relu")
        torch.manual_seed(3)
        RULES["kaiming"](layer.weight, GAINS["leaky_relu"])
        assert torch.equal(layer.weight, expected)
        assert float(ours.detach().std()) == pytest.approx(
            GAINS["leaky_relu"] / math.sqrt(fan_in), rel=0.35
        )


def test_orthogonal_weights_keep_lengths_times_the_gain() -> None:
    for layer in layers_of(network(init="orthogonal", activation="tanh", width=8).backbone):
        rows = layer.weight.flatten(1)
        product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
        torch.testing.assert_close(product, (5 / 3) ** 2 * torch.eye(len(product)))


@pytest.mark.parametrize("name", OWN_BACKBONES)
@pytest.mark.parametrize("init", [*RULES, "torch"])
def test_initial_weights_depend_on_the_seed_and_the_rule_alone(name: str, init: str) -> None:
    drawn = network(init=init, name=name)
    assert weights_hash(drawn) == weights_hash(network(init=init, name=name))
    others = [network(1, init, name=name), network(name=name)]
    assert weights_hash(drawn) not in {weights_hash(other) for other in others}
    assert weights_hash(drawn.head) == weights_hash(others[1].head)


def test_a_transformer_has_the_gain_of_the_activation_only_before_it() -> None:
    def stds(init: str) -> dict[str, float]:
        backbone = network(init=init, name="vit", width=64, activation="relu").backbone
        return {
            n: float(m.weight.detach().std()) * math.sqrt(m.weight[0].numel())
            for n, m in backbone.named_modules()
            if isinstance(m, nn.Linear)
        }

    for name, scaled in stds("kaiming").items():
        assert scaled == pytest.approx(math.sqrt(2) if name.endswith("mlp.0") else 1, rel=0.05)


def plain(activation: str, init: str, depth: int = 20, width: int = 128) -> list[float]:
    """Standard deviations after each layer of a plain network, for standard normal inputs."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(width, width), make_activation(activation)) for _ in range(depth)]
    backbone = nn.Sequential(*layers)
    initialise(backbone, init, activation)
    x: Tensor = torch.randn(256, width)
    return [float((x := layer(x)).detach().square().mean().sqrt()) for layer in backbone]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_signals_pass_twenty_plain_layers_with_the_gain_and_vanish_without(activation: str) -> None:
    for init in ("kaiming", "orthogonal"):
        # gelu and silu keep a length of 1 exactly, and stretch a little what is longer by chance
        assert 0.2 < plain(activation, init)[-1] < (50 if activation in ("gelu", "silu") else 5)
    assert plain(activation, "torch")[-1] < 0.1


def test_weights_of_a_file_are_left_alone_and_must_have_been_trained_with_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("models/weights/mine.safetensors")
    spec = own_spec("cnn", activation="tanh", pooling="avg")
    saved = make_classifier(spec)
    save_model(saved, spec, path)
    start = start_from(f"{path}", spec, "orthogonal")
    assert weights_hash(start.classifier) == weights_hash(saved)
    for change, said in (
        ({"activation": None}, r"trained with model\.activation tanh, but it is relu now"),
        ({"pooling": "max"}, r"trained with model\.pooling avg, but it is max now"),
    ):
        with pytest.raises(UserError, match=said):
            start_from(
                f"{path}", own_spec(**{"name": "cnn", "activation": "tanh", "pooling": "avg", **change})
            )


def test_the_usual_parts_are_not_mentioned_in_a_model_file() -> None:
    usual, other = own_spec("cnn"), own_spec("cnn", activation="silu", pooling="stride")
    absent = {"activation", "encoding", "file_sha256", "pooling", "unfamiliarity"}
    assert usual.to_dict().keys() == to_file(asdict(usual)).keys() - absent
    assert other.to_dict()["activation"] == "silu"
    for spec in (usual, other):
        assert ModelSpec.from_dict(spec.to_dict()) == spec
