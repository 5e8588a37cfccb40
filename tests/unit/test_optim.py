"""Optimizers against their formulas, their groups, frozen parameters, and changes of gradients."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import LAYERS, Layered, make_spec, through_a_file, train_options
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from darkroom.config.train import Train
from darkroom.errors import UserError
from darkroom.models.factory import make_classifier
from darkroom.models.network import backbone_layers
from darkroom.models.trainable import parameters_by_name
from darkroom.training.freezing import set_trainable
from darkroom.training.optim import (
    MAKERS,
    MuonAndAdamW,
    add_l1,
    lr_factors,
    make_optimizer,
)

NO_MOMENTUM: dict[str, Any] = {"momentum": None, "nesterov": None}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.8, "nesterov": False},
    "nesterov": {"optimizer": "sgd", "momentum": 0.8, "nesterov": True},
    "plain sgd": {"optimizer": "sgd", "momentum": 0.0, "nesterov": False},
    "adam": {"optimizer": "adam", **NO_MOMENTUM},
    "adamw": {"optimizer": "adamw", **NO_MOMENTUM},
    "adagrad": {"optimizer": "adagrad", **NO_MOMENTUM},
    "adadelta": {"optimizer": "adadelta", **NO_MOMENTUM, "lr": 1.0},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.8, "nesterov": None},
    "muon": {"optimizer": "muon", "momentum": 0.8, "nesterov": None},
}


def options_of(name: str, **changes: Any) -> Train:
    return train_options(**{"lr": 0.01, "weight_decay": 0.1, **OPTIMIZERS[name], **changes})


def learn(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    """Takes steps on noise, which is a function of the step."""
    dtype = next(model.parameters()).dtype
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator, dtype=dtype)
        optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        optimizer.step()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in parameters_by_name(model).items()}


def farthest(weights: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


# the formulas, in the words of torch's documentation


Update = Callable[[Tensor, Tensor, dict[str, Any], float, float, Train], None]


def sgd(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    grad = grad + decay * p
    state["velocity"] = options.momentum * state.get("velocity", 0) + grad
    p -= lr * (grad + options.momentum * state["velocity"] if options.nesterov else state["velocity"])


def adam(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    adamw(p, grad + decay * p, state, lr, 0.0, options)


def adamw(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    state["step"] = step = state.get("step", 0) + 1
    state["first"] = 0.9 * state.get("first", 0) + 0.1 * grad
    state["second"] = 0.999 * state.get("second", 0) + 0.001 * grad**2
    first, second = state["first"] / (1 - 0.9**step), state["second"] / (1 - 0.999**step)
    p -= lr * decay * p + lr * first / (second.sqrt() + 1e-8)


def adagrad(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    grad = grad + decay * p
    state["sum"] = state.get("sum", 0) + grad**2
    p -= lr * grad / (state["sum"].sqrt() + 1e-10)


def adadelta(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    grad = grad + decay * p
    state["squares"] = 0.9 * state.get("squares", 0) + 0.1 * grad**2
    moved = torch.as_tensor(state.get("moved", 0.0), dtype=p.dtype)
    move = (moved + 1e-6).sqrt() / (state["squares"] + 1e-6).sqrt() * grad
    state["moved"] = 0.9 * moved + 0.1 * move**2
    p -= lr * move


def rmsprop(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    grad = grad + decay * p
    state["squares"] = 0.99 * state.get("squares", 0) + 0.01 * grad**2
    step = grad / (state["squares"].sqrt() + 1e-8)
    state["velocity"] = options.momentum * state.get("velocity", 0) + step
    p -= lr * state["velocity"]


def muon(p: Tensor, grad: Tensor, state: dict, lr: float, decay: float, options: Train) -> None:
    """Jordan's iteration towards the orthogonal factor of a matrix, in bfloat16 as published."""
    state["velocity"] = options.momentum * state.get("velocity", 0) + (1 - options.momentum) * grad
    x = (options.momentum * state["velocity"] + (1 - options.momentum) * grad).bfloat16()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    x = x.T if is_tall else x
    p -= lr * decay * p + 0.2 * lr * math.sqrt(max(p.shape)) * x


FORMULAS: dict[str, Update] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "muon": muon,
}
MATRICES = {"backbone.layer1.0.weight", "backbone.layer2.0.weight"}
DECAYED = {*MATRICES, "backbone.embedding.weight", "head.weight"}


def learn_by_hand(model: nn.Module, options: Train, steps: range) -> None:
    states: dict[str, dict[str, Any]] = {name: {} for name in parameters_by_name(model)}
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        named = parameters_by_name(model)
        loss = (model(x) - x[:, :2]).square().mean()
        grads = torch.autograd.grad(loss, list(named.values()))
        for (name, p), grad in zip(named.items(), grads, strict=True):
            update = FORMULAS[options.optimizer]
            if options.optimizer == "muon" and name not in MATRICES:
                update = adamw
            decay = options.weight_decay if name in DECAYED else 0.0
            with torch.no_grad():
                update(p, grad, states[name], options.lr, decay, options)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_equal_the_formulas(name: str) -> None:
    trained, by_hand, undecayed = (Layered().double() for _ in range(3))
    options = options_of(name)
    learn(trained, make_optimizer(trained, options), range(5))
    learn_by_hand(by_hand, options, range(5))
    learn_by_hand(undecayed, options_of(name, weight_decay=0.0), range(5))
    tolerance = 3e-3 if name == "muon" else 1e-9  # bfloat16 rounds to 8 bits
    moved = farthest(weights_of(trained), weights_of(Layered().double()))
    assert farthest(weights_of(trained), weights_of(by_hand)) < tolerance < moved / 5
    assert farthest(weights_of(trained), weights_of(undecayed)) > 1e-4


def flat_sgd(model: nn.Module, momentum: float) -> Optimizer:
    """torch's own, as it was used for the committed results."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.0005}, {"params": plain, "weight_decay": 0.0}]
    return SGD(groups, lr=0.05, momentum=momentum, nesterov=True, fused=True)


def learn_images(model: nn.Module, optimizer: Optimizer) -> nn.Module:
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (8, 1, 8, 8), generator=generator)
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("network", ["cnn", "resnet"])
def test_the_default_job_is_torchs_sgd_in_two_groups_to_the_bit(network: str) -> None:
    torch.manual_seed(0)
    model = make_classifier(make_spec(name=network, width=8)).to(memory_format=torch.channels_last)
    ours, torchs, other = (copy.deepcopy(model) for _ in range(3))
    optimizer = make_optimizer(ours, train_options())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0005, 0.0]
    assert all(group["fused"] for group in optimizer.param_groups)
    learn_images(ours, optimizer)
    learn_images(torchs, flat_sgd(torchs, 0.9))
    learn_images(other, flat_sgd(other, 0.8))
    assert all(a.equal(b) for a, b in zip(ours.parameters(), torchs.parameters(), strict=True))
    assert not any(a.equal(b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_kernel_steps_a_group_where_there_is_one(name: str) -> None:
    optimizer = make_optimizer(Layered(), options_of(name))
    for group in optimizer.param_groups:
        if "ns_steps" in group:  # Muon's, which has no such kernel
            continue
        is_fused = name not in ("adadelta", "rmsprop")
        assert (group.get("fused", False), group["foreach"]) == (is_fused, not is_fused)


def test_every_optimizer_of_the_parameter_can_be_made() -> None:
    allowed = Train.model_json_schema()["properties"]["optimizer"]["enum"]
    assert sorted(allowed) == sorted([*MAKERS, "muon"])


# groups


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_optimised_once(name: str) -> None:
    models = [Layered()]
    if name != "muon":
        models += [make_classifier(make_spec(name=network)) for network in ("cnn", "resnet")]
    for model in models:
        groups = make_optimizer(model, options_of(name)).param_groups
        optimised = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(optimised) == sorted(id(parameter) for parameter in model.parameters())


def settings(model: nn.Module, key: str, **changes: Any) -> dict[str, Any]:
    """What the group of each parameter says of it."""
    names = {id(parameter): name for name, parameter in parameters_by_name(model).items()}
    groups = make_optimizer(model, train_options(**changes)).param_groups
    return {names[id(p)]: group[key] for group in groups for p in group["params"]}


@pytest.mark.parametrize("weight_decay", [0.1, 0.0])
def test_norms_biases_and_positions_are_not_decayed(weight_decay: float) -> None:
    model = Layered()
    decays = settings(model, "weight_decay", weight_decay=weight_decay)
    assert decays == {name: weight_decay if name in DECAYED else 0.0 for name in decays}
    marks = settings(model, "is_decayed", weight_decay=weight_decay)
    assert {name for name, is_decayed in marks.items() if is_decayed} == DECAYED


@pytest.mark.parametrize(
    ("name", "is_decayed"),
    [
        ("positions", False),
        ("position_embedding", False),
        ("pos_embedding", False),
        ("pos_embed", False),
        ("cls_token", False),
        ("class_token", False),
        ("relative_position_bias_table", False),
        ("composition", True),
        ("class_tokens_weight", True),
    ],
)
def test_positions_are_known_by_their_names(name: str, is_decayed: bool) -> None:
    model = Layered()
    model.network.backbone.register_parameter(name, nn.Parameter(torch.zeros(1, 2, 6)))
    assert settings(model, "is_decayed")[f"backbone.{name}"] is is_decayed


def test_rates_fall_from_the_head_to_the_image() -> None:
    names = parameters_by_name(Layered())
    factors = lr_factors(names, train_options(layer_decay=0.5), LAYERS)
    expected = {"head": 1, "layer2": 0.5, "layer1": 0.25, "embedding": 0.125, "class_token": 0.125}
    assert list(factors) == list(names)
    for name, factor in factors.items():
        assert factor == next(value for part, value in expected.items() if part in name)
    assert set(lr_factors(names, train_options(), LAYERS).values()) == {1}
    # what is in no layer goes with the first
    unnamed = lr_factors(names, train_options(layer_decay=0.5), LAYERS[1:])
    assert unnamed["backbone.class_token"] == unnamed["backbone.layer1.1.bias"] == 0.25


@pytest.mark.parametrize("network", [{"name": "cnn"}, {"name": "vit", "patch_size": 4, "width": 16}])
def test_the_layers_of_our_networks_fall_one_by_one(network: dict[str, Any]) -> None:
    model = make_classifier(make_spec(**network))
    layers = backbone_layers(model.network)
    names = parameters_by_name(model)
    assert {name for of in layers for name in of} == {n for n in names if not n.startswith("head.")}
    factors = lr_factors(names, train_options(layer_decay=0.5), layers)
    assert sorted(set(factors.values())) == [0.5**n for n in range(len(layers), -1, -1)]
    assert [factors[of[0]] for of in layers] == sorted(factors[of[0]] for of in layers)
    assert factors["head.linear.weight"] == 1


def test_of_matching_patterns_the_last_counts_times_the_layers_decay() -> None:
    names = parameters_by_name(Layered())
    patterns = {"backbone.*": 0.1, "backbone.layer2": 3.0, "*.bias": 7.0}
    factors = lr_factors(names, train_options(lr_factors=patterns))
    assert factors["head.weight"] == 1
    assert factors["backbone.layer1.0.weight"] == 0.1
    assert factors["backbone.layer2.0.weight"] == 3
    assert factors["backbone.layer2.1.bias"] == factors["head.bias"] == 7
    both = lr_factors(names, train_options(lr_factors=patterns, layer_decay=0.5), LAYERS)
    assert both["backbone.layer2.0.weight"] == 1.5
    assert both["head.bias"] == 7
    reversed_ = lr_factors(names, train_options(lr_factors=dict(reversed(patterns.items()))))
    assert reversed_["backbone.layer2.1.bias"] == 0.1


def test_a_pattern_of_factors_that_matches_nothing_is_refused() -> None:
    options = train_options(lr_factors={"backbon.*": 0.1})
    with pytest.raises(UserError) as refused:
        make_optimizer(Layered(), options)
    assert str(refused.value) == ("train.lr_factors: backbon.* matches no layer; did you mean backbone?")


def test_equal_settings_are_one_group() -> None:
    model = Layered()
    assert len(make_optimizer(model, train_options()).param_groups) == 2
    halved = {"backbone.layer1": 0.5, "backbone.layer2": 0.5}
    groups = make_optimizer(model, train_options(lr_factors=halved)).param_groups
    assert sorted((group["lr"], group["is_decayed"]) for group in groups) == [
        (0.025, False),
        (0.025, True),
        (0.05, False),
        (0.05, True),
    ]
    decayed = make_optimizer(model, train_options(layer_decay=0.5), LAYERS).param_groups
    assert len(decayed) == 4 * 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_group_moves_by_its_own_rate(name: str) -> None:
    """The head does not look at the rate of the backbone, in one step."""
    plain, slower = Layered(), Layered()
    start = weights_of(plain)
    learn(plain, make_optimizer(plain, options_of(name)), range(1))
    factors = {"backbone.layer1": 0.125}
    learn(slower, make_optimizer(slower, options_of(name, lr_factors=factors)), range(1))
    whole, part = weights_of(plain), weights_of(slower)
    for key, weights in start.items():
        factor = 0.125 if "layer1" in key else 1
        assert torch.allclose(part[key] - weights, factor * (whole[key] - weights), atol=1e-6), key
    assert farthest(whole, part) > 1e-4


# frozen parameters


FROZEN: dict[str, Any] = {
    "freeze": "backbone",
    "unfreeze": [{"epoch": 3, "layers": "backbone.layer2"}, {"epoch": 4, "layers": "backbone.*"}],
}
JOINED = {1: "head.", 2: "head.", 3: ("head.", "backbone.layer2."), 4: ""}
"""Beginnings of the names that learn in an epoch."""
STEPS_EACH = 2


def learn_epochs(
    model: nn.Module, optimizer: Optimizer, options: Train, epochs: range, keep: Any = None
) -> None:
    for epoch in epochs:
        model.train()
        set_trainable(model, epoch, options)
        for step in range(STEPS_EACH * epoch, STEPS_EACH * (epoch + 1)):
            learn(model, optimizer, range(step, step + 1))
        if keep is not None:
            keep(epoch)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_frozen_parameter_stays_to_the_bit_and_learns_once_it_may(name: str) -> None:
    model, options = Layered(), options_of(name, **FROZEN)
    optimizer = make_optimizer(model, options)
    states = [weights_of(model)]
    learn_epochs(model, optimizer, options, range(1, 5), lambda _: states.append(weights_of(model)))
    for epoch, begin in JOINED.items():
        before, after = states[epoch - 1], states[epoch]
        for key in before:
            assert before[key].equal(after[key]) != key.startswith(begin), (epoch, key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_frozen_again_stays_although_it_has_momentum(name: str) -> None:
    model, options = Layered(), options_of(name)
    optimizer = make_optimizer(model, options)
    learn_epochs(model, optimizer, options, range(1, 2))
    moving = weights_of(model)
    learn_epochs(model, optimizer, options_of(name, freeze="backbone"), range(2, 3))
    for key, weights in weights_of(model).items():
        assert weights.equal(moving[key]) == key.startswith("backbone.")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_layer_that_joins_later_begins_as_in_a_new_optimizer(name: str) -> None:
    model, options = Layered().double(), options_of(name, **FROZEN)
    optimizer = make_optimizer(model, options)
    learn_epochs(model, optimizer, options, range(1, 3))
    fresh = copy.deepcopy(model)
    for trained, by in ((model, optimizer), (fresh, make_optimizer(fresh, options))):
        set_trainable(trained, 3, options)
        learn(trained, by, range(99, 100))
    for key, weights in weights_of(model).items():
        is_equal = torch.allclose(weights, weights_of(fresh)[key], rtol=1e-12, atol=1e-15)
        assert is_equal != (key.startswith("head.") and name != "plain sgd"), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_after_any_epoch_frozen_layers_join_in_as_before(name: str) -> None:
    options = options_of(name, **FROZEN, layer_decay=0.7)
    model = Layered()
    optimizer = make_optimizer(model, options, LAYERS)
    saved: dict[int, Any] = {}

    def save(epoch: int) -> None:
        saved[epoch] = through_a_file({"m": model.state_dict(), "o": optimizer.state_dict()})

    save(0)
    learn_epochs(model, optimizer, options, range(1, 5), save)
    for epoch, values in saved.items():
        again = Layered(seed=1)
        other = make_optimizer(again, options, LAYERS)
        again.load_state_dict(values["m"])
        other.load_state_dict(values["o"])
        learn_epochs(again, other, options, range(epoch + 1, 5))
        assert farthest(weights_of(again), weights_of(model)) == 0, epoch
    # without the optimizer's state another way is taken, but for the one that has none
    again = Layered(seed=1)
    again.load_state_dict(saved[3]["m"])
    learn_epochs(again, make_optimizer(again, options, LAYERS), options, range(4, 5))
    assert (farthest(weights_of(again), weights_of(model)) == 0) == (name == "plain sgd")


# muon


def test_muon_takes_the_matrices_of_the_backbone_and_adamw_all_else() -> None:
    model = Layered()
    optimizer = make_optimizer(model, options_of("muon"))
    names = {id(parameter): name for name, parameter in parameters_by_name(model).items()}
    by_muon = {
        names[id(p)] for group in optimizer.param_groups for p in group["params"] if "ns_steps" in group
    }
    assert by_muon == MATRICES


def singular_values(name: str) -> Tensor:
    """Those of the first step of the matrix in the first layer: float ``(4,)``."""
    model = Layered()
    start = weights_of(model)
    learn(model, make_optimizer(model, options_of(name, weight_decay=0.0)), range(1))
    first = "backbone.layer1.0.weight"
    return torch.linalg.svdvals(weights_of(model)[first] - start[first])


def test_muon_moves_a_matrix_by_nearly_equal_singular_values() -> None:
    scaled = singular_values("muon") / (0.01 * 0.2 * math.sqrt(6))
    assert float(scaled.min()) > 0.4
    assert float(scaled.max()) < 1.6
    by_sgd = singular_values("plain sgd")
    assert float(by_sgd.max() / by_sgd.min()) > 4


def test_muon_is_scheduled_by_torch_and_scaled_by_its_scaler() -> None:
    model, options = Layered(), options_of("muon")
    plain = copy.deepcopy(model)
    optimizer = make_optimizer(model, options)
    schedule = OneCycleLR(optimizer, 0.01, total_steps=10, cycle_momentum=False)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 / 25] * 3)
    scaler = GradScaler("cpu", init_scale=1024.0)
    learn(plain, make_optimizer(plain, options_of("muon", lr=0.01 / 25)), range(1))
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    scaler.scale((model(x) - x[:, :2]).square().mean()).backward()
    scaler.step(optimizer)
    scaler.update()
    schedule.step()
    assert farthest(weights_of(model), weights_of(plain)) < 1e-6
    assert all(group["lr"] > 0.01 / 25 for group in optimizer.param_groups)
    before = weights_of(model)
    scaler.scale(model(x).sum() * math.inf).backward()
    scaler.step(optimizer)  # is left out
    assert farthest(weights_of(model), before) == 0


def test_a_restored_muon_obeys_the_schedule_and_keeps_its_state() -> None:
    model, options = Layered(), options_of("muon")
    optimizer = make_optimizer(model, options)
    learn(model, optimizer, range(2))
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    assert len(optimizer.state) == len(list(model.parameters()))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights_of(model)
    learn(model, optimizer, range(2, 3))
    assert farthest(weights_of(model), before) == 0
    assert float(optimizer.state[model.network.head.weight]["step"]) == 3


def test_muon_computes_a_closure_once() -> None:
    model = Layered()
    optimizer = make_optimizer(model, options_of("muon"))
    assert isinstance(optimizer, MuonAndAdamW)
    calls: list[int] = []

    def closure() -> float:
        calls.append(1)
        model(torch.ones(8, 4)).sum().backward()
        return 0.5

    assert optimizer.step(closure) == 0.5
    assert calls == [1]


def test_muon_without_matrices_or_without_torchs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as refused:
        make_optimizer(make_classifier(make_spec()), options_of("muon"))
    assert str(refused.value) == (
        "train.optimizer: muon optimizes matrices, and this network's backbone has none; use adamw"
    )
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError) as refused:
        make_optimizer(Layered(), options_of("muon"))
    assert str(refused.value) == (f"train.optimizer: PyTorch {torch.__version__} has no muon; use adamw")


# gradients


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in parameters_by_name(model).items()}


def test_l1_is_the_gradient_of_the_penalised_loss() -> None:
    model = Layered().double()
    with torch.no_grad():
        model.network.head.weight[0, :3] = 0  # whose subgradient is 0
    penalised = copy.deepcopy(model)
    x = torch.randn(8, 4, dtype=torch.float64)
    optimizer = make_optimizer(model, train_options())
    model(x).square().mean().backward()
    plain = {name: grad.clone() for name, grad in gradients(model).items()}
    add_l1(optimizer, 0.03)
    named = parameters_by_name(penalised)
    penalty = sum(named[name].abs().sum() for name in DECAYED)
    (penalised(x).square().mean() + 0.03 * penalty).backward()
    for name, grad in gradients(penalised).items():
        assert torch.allclose(gradients(model)[name], grad, rtol=1e-12, atol=1e-15), name
        assert gradients(model)[name].equal(plain[name]) != (name in DECAYED)


def test_no_l1_changes_nothing_and_frozen_layers_have_none() -> None:
    model = Layered()
    optimizer = make_optimizer(model, train_options())
    set_trainable(model, 1, train_options(freeze="backbone"))
    model(torch.randn(8, 4)).square().mean().backward()
    plain = {name: None if g is None else g.clone() for name, g in gradients(model).items()}
    add_l1(optimizer, 0.0)
    assert gradients(model)["head.weight"].equal(plain["head.weight"])
    add_l1(optimizer, 0.5)
    assert not gradients(model)["head.weight"].equal(plain["head.weight"])
    assert all(grad is None for name, grad in gradients(model).items() if "backbone" in name)
