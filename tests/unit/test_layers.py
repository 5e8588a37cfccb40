"""Which layers a pattern matches, and which learn in an epoch."""

import copy
from typing import Any, NamedTuple

import pytest
import torch
from support import Layered, make_spec, train_options
from torch import nn

from darkroom.errors import UserError
from darkroom.models.factory import make_classifier
from darkroom.models.trainable import matching, parameters_by_name, trainable_in
from darkroom.training.freezing import set_trainable

NAMES = [
    "backbone.stem.weight",
    "backbone.layer1.0.weight",
    "backbone.layer1.0.bias",
    "backbone.layer1.1.weight",
    "backbone.layer10.0.weight",
    "head.weight",
    "head.bias",
]
EVERY = range(len(NAMES))


class Entry(NamedTuple):
    epoch: int
    layers: str


def indices(found: set[str]) -> list[int]:
    assert found <= set(NAMES)
    return [index for index, name in enumerate(NAMES) if name in found]


def test_names_are_those_of_the_network() -> None:
    model = make_classifier(make_spec())
    named = parameters_by_name(model)
    assert [f"network.{name}" for name in named] == [name for name, _ in model.named_parameters()]
    assert list(named.values()) == list(model.parameters())
    assert list(parameters_by_name(nn.Linear(1, 1))) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("backbone.layer1.*", [1, 2, 3]),
        ("backbone.layer1", [1, 2, 3]),  # not layer10, whose name only begins alike
        ("backbone.layer1*", [1, 2, 3, 4]),
        ("backbone.layer?", [1, 2, 3]),
        ("backbone.layer[0-9]*.0", [1, 2, 4]),
        ("*.bias", [2, 6]),
        ("backbone", [0, 1, 2, 3, 4]),
        ("head.*", [5, 6]),
        ("head.bias", [6]),
        ("*", list(EVERY)),
    ],
)
def test_a_pattern_matches_names_and_all_below_a_layer(pattern: str, matched: list[int]) -> None:
    assert indices(matching(pattern, NAMES, "train.freeze")) == matched


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("backbone.layr1.*", "; did you mean backbone.layer1?"),
        ("backbone.layr10", "; did you mean backbone.layer10?"),
        ("Head", "; did you mean head?"),
        ("backbone.layer1.0.wieght", "; did you mean backbone.layer1.0.weight?"),
        ("layer1.0", "; did you mean backbone.layer1.0?"),
        ("ead", "; did you mean head?"),
        ("transformer.blocks.*", "; `darkroom summary` shows their names"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(pattern: str, advice: str) -> None:
    with pytest.raises(UserError) as refused:
        matching(pattern, NAMES, "train.lr_factors")
    assert str(refused.value) == f"train.lr_factors: {pattern} matches no layer{advice}"


BY_STEPS = [Entry(3, "backbone.layer10"), Entry(5, "backbone.layer1"), Entry(5, "backbone.stem")]


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "by_epoch"),
    [
        ("none", [], {1: EVERY, 9: EVERY}),
        ("backbone", [], {1: [5, 6], 9: [5, 6]}),
        ("backbone", BY_STEPS, {1: [5, 6], 2: [5, 6], 3: [4, 5, 6], 4: [4, 5, 6], 5: EVERY, 9: EVERY}),
        ("backbone", BY_STEPS[::-1], {2: [5, 6], 4: [4, 5, 6], 5: EVERY}),
        ("backbone", [Entry(2, "*.bias")], {1: [5, 6], 2: [2, 5, 6]}),
        (["head.*"], [], {1: [0, 1, 2, 3, 4]}),
        (["backbone.stem", "*.bias"], [], {1: [1, 3, 4, 5]}),
        (["backbone.stem", "*.bias"], [Entry(2, "head")], {1: [1, 3, 4, 5], 2: [1, 3, 4, 5, 6]}),
    ],
)
def test_what_learns_is_a_function_of_the_epoch(
    freeze: Any, unfreeze: list[Entry], by_epoch: dict[int, list[int]]
) -> None:
    for epoch, learning in by_epoch.items():
        assert indices(trainable_in(epoch, NAMES, freeze, unfreeze)) == list(learning)


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "message"),
    [
        (["heat"], [], "train.freeze: heat matches no layer; did you mean head?"),
        (["head", "heat"], [], "train.freeze: heat matches no layer; did you mean head?"),
        # long before its epoch
        ("backbone", [Entry(99, "heat")], "train.unfreeze: heat matches no layer; did you mean head?"),
        (["*"], [], "train.freeze: all layers are frozen in epoch 1; freeze fewer"),
        (["*"], [Entry(2, "*")], "train.freeze: all layers are frozen in epoch 1; freeze fewer"),
    ],
)
def test_what_cannot_learn_is_refused(freeze: Any, unfreeze: list[Entry], message: str) -> None:
    with pytest.raises(UserError) as refused:
        trainable_in(1, NAMES, freeze, unfreeze)
    assert str(refused.value) == message


def test_all_may_be_frozen_in_the_end_but_not_ever() -> None:
    assert trainable_in(2, NAMES, ["*"], [Entry(2, "head")]) == {"head.weight", "head.bias"}


# in a model


def learning_in(epoch: int, model: nn.Module, **options: Any) -> set[str]:
    model.train()
    set_trainable(model, epoch, train_options(**options))
    return {name for name, p in parameters_by_name(model).items() if p.requires_grad}


LATER: dict[str, Any] = {
    "freeze": "backbone",
    "unfreeze": [{"epoch": 2, "layers": "backbone.layer2"}],
}


def test_requires_grad_follows_the_epoch_either_way() -> None:
    model = Layered()
    names = set(parameters_by_name(model))
    head = {name for name in names if name.startswith("head.")}
    layer2 = {name for name in names if name.startswith("backbone.layer2.")}
    assert len(head) == 2
    assert len(layer2) == 3
    assert learning_in(1, model, **LATER) == head
    assert learning_in(2, model, **LATER) == head | layer2
    assert learning_in(1, model, **LATER) == head
    assert learning_in(1, model) == names


@pytest.mark.parametrize("network", [{"name": "cnn"}, {"name": "vit", "patch_size": 4, "width": 16}])
def test_of_a_classifier_the_head_learns_alone(network: dict[str, Any]) -> None:
    model = make_classifier(make_spec(**network))
    learning = learning_in(1, model, freeze="backbone")
    assert learning == {name for name, _ in model.network.named_parameters() if "head" in name}
    assert learning


def test_frozen_parameters_have_no_gradient_left() -> None:
    model = Layered()
    model(torch.randn(8, 4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    learning = learning_in(1, model, freeze=["backbone.layer1"])
    for name, parameter in parameters_by_name(model).items():
        assert (parameter.grad is not None) == (name in learning)


def statistics_after(epoch: int, frozen: nn.Module, **options: Any) -> list[str]:
    """The layers whose running statistics one forward in training changes."""
    model = copy.deepcopy(frozen)
    learning_in(epoch, model, **options)
    model(torch.randn(8, 4))
    pairs = zip(model.named_buffers(), frozen.buffers(), strict=True)
    return [name for (name, a), b in pairs if name.endswith("running_var") and not a.equal(b)]


def test_frozen_normalisation_keeps_its_statistics() -> None:
    model = Layered()
    in_1, in_2 = (f"network.backbone.layer{n}.1.running_var" for n in (1, 2))
    assert statistics_after(1, model, **LATER) == []
    assert statistics_after(2, model, **LATER) == [in_2]
    assert statistics_after(1, model) == [in_1, in_2]
    # one that learns a part is not frozen
    assert statistics_after(1, model, freeze=["*.bias"]) == [in_1, in_2]
    assert statistics_after(1, model, freeze=["backbone.layer1.1"]) == [in_2]


def test_frozen_normalisation_normalises_by_its_statistics_and_the_rest_stays_in_training() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.BatchNorm1d(4, affine=False))
    model.add_module("head", nn.Linear(4, 2))
    learning_in(1, model, freeze=["0"])
    assert [module.training for module in model] == [False, True, True, True]
    x = 5 + 3 * torch.randn(8, 4)
    assert torch.allclose(model[0](x), x, rtol=1e-4)  # whose statistics are still 0 and 1
    learning_in(1, model, freeze="none")
    assert [module.training for module in model] == [True, True, True, True]
    assert not torch.allclose(model[0](x), x, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        {"name": "mlp", "dropout": 0.5},
        {"name": "vit", "patch_size": 4, "width": 32, "stochastic_depth": 0.9},
        {"name": "torchvision:vgg11", "channels": 3, "input_size": (32, 32)},
    ],
)
def test_a_backbone_frozen_as_a_whole_computes_what_it_will_when_it_is_used(
    network: dict[str, Any],
) -> None:
    model = make_classifier(make_spec(**network))
    spec = make_spec(**network)
    images = torch.randint(256, (4, spec.channels, *spec.input_size), dtype=torch.uint8)
    used = model.eval().features(images)
    learning_in(1, model, freeze="backbone")
    assert model.network.head.training
    assert model.features(images).equal(used)
    learning_in(1, model)
    assert not model.features(images).equal(model.features(images))
