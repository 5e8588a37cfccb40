"""Norms of each layer's gradient: what is measured, what it changes, and what is remarked."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import make_spec, plain_loss, train_options, weights_hash
from torch import nn

from darkroom.loading.batches import TrainBatch
from darkroom.models.factory import make_classifier
from darkroom.training.engine import fit, train_step
from darkroom.training.gradients import (
    GradientNorms,
    LayerGradient,
    layers_of,
    remarks_on_gradients,
    write_gradients,
)
from darkroom.training.state import TrainingState

NUM_STEPS = 3


def batch(seed: int, count: int = 8) -> TrainBatch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return TrainBatch(images, torch.arange(count) % 2)


def trained(**changes: Any) -> TrainingState:
    """Two epochs of three steps of a small cnn."""
    options = train_options(**changes)
    torch.manual_seed(0)
    state = TrainingState(make_classifier(make_spec(dropout=0.2)), options, NUM_STEPS)
    batches = [batch(step) for step in range(NUM_STEPS)]
    val = [(each.images, each.targets) for each in batches]
    list(fit(state, lambda _, step: batches[step:], lambda _: val, plain_loss(options), options, seed=0))
    return state


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.1, "l1": 0.01, "ema_decay": 0.9}, {"clip_value": 0.01, "micro_batches": 2}],
    ids=["plain", "clipped, lasso, averaged", "clipped values, in parts"],
)
def test_measuring_changes_no_weight(options: dict[str, Any]) -> None:
    plain, measured = (trained(**options, gradient_norms=on) for on in (False, True))
    assert weights_hash(plain.model) == weights_hash(measured.model)
    assert plain.gradients is None
    assert "gradients" in measured.to_dict()
    other = trained(**options, gradient_norms=True, lr=0.06)
    assert weights_hash(other.model) != weights_hash(measured.model)


def test_norms_are_those_of_the_loss_before_the_penalty_and_before_clipping() -> None:
    options = train_options(gradient_norms=True, clip_norm=1e-3, l1=1.0, momentum=0.0, nesterov=False)
    torch.manual_seed(0)
    state = TrainingState(make_classifier(make_spec()), options, NUM_STEPS)
    loss = plain_loss(options)
    expected: list[dict[str, float]] = []
    for step in range(NUM_STEPS):
        part = batch(step)
        value = nn.functional.cross_entropy(state.model(part.images), part.targets)
        grads = dict(zip(layers_of(state.model), _squares(state.model, value), strict=True))
        expected.append(grads)
        train_step(state, state.model, part, loss, options)
        state.step += 1
    assert state.gradients is not None
    for result in state.gradients.of_epoch(1):
        mean = sum(math.sqrt(step[result.layer]) for step in expected) / NUM_STEPS
        assert result.grad_norm == pytest.approx(mean, rel=1e-4)


def _squares(model: nn.Module, loss: torch.Tensor) -> list[float]:
    """The squared norm of each layer's gradient."""
    groups = list(layers_of(model).values())
    flat = [parameter for group in groups for parameter in group]
    grads = dict(zip(map(id, flat), torch.autograd.grad(loss, flat), strict=True))
    assert {id(p) for p in model.parameters()} == set(grads)
    return [sum(float(grads[id(p)].square().sum()) for p in group) for group in groups]


def test_layers_are_matrices_with_the_vectors_after_them() -> None:
    names = {
        name: [tuple(p.shape) for p in parameters]
        for name, parameters in layers_of(make_classifier(make_spec())).items()
    }
    assert names == {
        "backbone.stages.0.0": [(4, 1, 3, 3), (4,), (4,)],
        "backbone.stages.0.3": [(4, 4, 3, 3), (4,), (4,)],
        "backbone.stages.1.1": [(8, 4, 3, 3), (8,), (8,)],
        "backbone.stages.1.4": [(8, 8, 3, 3), (8,), (8,)],
        "head.linear": [(2, 8), (2,)],
    }


def test_units_that_no_step_reaches_are_dead_and_frozen_layers_have_no_norm() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.copy_(torch.tensor([-100.0, -100.0, 1.0, -2.5]))
    model[3].requires_grad_(False)
    norms = GradientNorms(model)
    for scale in (0.1, 1.0):  # the last unit is reached in the second step alone
        model.zero_grad()
        model(torch.full((5, 3), scale)).square().sum().backward()
        norms.add_step()
    first, second, frozen = norms.of_epoch(1)
    assert (first.num_units, first.num_dead) == (4, 2)
    assert (second.num_units, second.num_dead) == (2, 0)
    assert (frozen.grad_norm, frozen.num_dead) == (None, 0)
    norms.finish_epoch(1)
    assert norms.results == [first, second, frozen]
    assert all(each.grad_norm is None for each in norms.of_epoch(2))


# remarks


def results(norms: list[list[float | None]], dead: int = 0) -> list[LayerGradient]:
    """Epochs of layers of eight units; only the second layer of the last epoch has dead ones."""
    return [
        LayerGradient(epoch, f"layer {place}", norm, 8, dead if (epoch, place) == (len(norms), 1) else 0)
        for epoch, row in enumerate(norms, start=1)
        for place, norm in enumerate(row)
    ]


@pytest.mark.parametrize(
    ("norms", "dead", "said"),
    [
        ([[1e-4, 0.1, 1.0]] * 3, 0, "gradients vanish: the norm in layer 0, the first layer, is 0.0001"),
        ([[2e-3, 0.1, 1.0]] * 3, 0, None),
        ([[1e-4, 1.0], [0.1, 1.0], [0.1, 1.0]], 0, None),
        ([[5e3, 1.0]] * 3, 0, "gradients explode: the norm in layer 0, the first layer, is 5e+03"),
        ([[5e2, 1.0]] * 3, 0, None),
        ([[None, 1.0, 1.0]] * 3, 0, None),
        ([[None, 1e-5, 1.0]] * 3, 0, "the norm in layer 1, the first layer, is 1e-05"),
        ([[None, 1.0]] * 3, 0, None),
        ([[0.0, 0.0]] * 3, 0, None),
        ([[1.0, 1.0, 1.0]], 2, "many units are dead (2 of 8 in layer 1)"),
        ([[1.0, 1.0, 1.0]], 1, None),
    ],
)
def test_vanishing_exploding_and_dead_are_remarked_with_what_helps(
    norms: list[list[float | None]], dead: int, said: str | None
) -> None:
    remarks = remarks_on_gradients(results(norms, dead))
    if said is None:
        assert remarks == []
    else:
        assert len(remarks) == 1
        assert said in remarks[0]


def test_the_table_has_a_row_per_epoch_and_layer_and_the_picture_the_same_bytes(tmp_path: Path) -> None:
    values = results([[1e-4, 0.0, None], [1e-3, 1.0, 2.0]], dead=3)
    for folder in ("a", "b"):
        write_gradients(values, tmp_path / folder)
    rows = list(csv.DictReader((tmp_path / "a/gradients.csv").open()))
    assert [row["layer"] for row in rows] == ["layer 0", "layer 1", "layer 2"] * 2
    assert [row["grad_norm"] for row in rows] == ["0.0001", "0.0", "", "0.001", "1.0", "2.0"]
    assert rows[4]["num_dead"] == "3"
    for name in ("gradients.csv", "gradients.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a/gradients.png") as image:
        assert image.width > image.height
