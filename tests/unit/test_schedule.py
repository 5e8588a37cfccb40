"""The learning rate of each step, against the formulas, and resumed at every step."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import Layered, one_cycle, through_a_file, train_options
from torch import nn
from torch.optim import SGD, Optimizer

from darkroom.loading.batches import TrainBatch
from darkroom.training.engine import train_one_epoch
from darkroom.training.losses import make_loss
from darkroom.training.optim import make_optimizer
from darkroom.training.schedule import make_plateau, make_schedule
from darkroom.training.state import TrainingState
from darkroom.training.targets import one_class

NUM_EPOCHS = 10
NUM_STEPS = 6
"""Per epoch."""
TOTAL_STEPS = NUM_EPOCHS * NUM_STEPS
LRS = [0.4, 0.04, 0.123]
VAL_LOSSES = [2.0, 1.5, 1.4999, 1.6, 1.49, 1.7, 1.48999, 1.9, 1.9, 1.2]
NUM_FALLS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
"""Before each epoch, if two epochs without a loss that is lower by 0.01 % are followed by a fall."""

FALLS: dict[str, Any] = {"warmup_fraction": None, "decay_factor": 0.3}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"schedule": "constant", "warmup_fraction": None},
    "one_cycle": {"schedule": "one_cycle", "warmup_fraction": 0.3},
    "cosine": {"schedule": "cosine", "warmup_fraction": 0.0},
    "cosine with a warm-up": {"schedule": "cosine", "warmup_fraction": 0.25},
    "step": {"schedule": "step", "decay_epochs": 3, **FALLS},
    "multi_step": {"schedule": "multi_step", "decay_epochs": [1, 4, 5], **FALLS},
    "exponential": {"schedule": "exponential", **FALLS},
    "plateau": {"schedule": "plateau", "decay_epochs": 1, **FALLS},
}


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


FACTORS: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, epoch: 1,
    "one_cycle": lambda step, epoch: one_cycle(step, TOTAL_STEPS, 1.0, 0.3),
    "cosine": lambda step, epoch: half_cosine(step / 60),
    "cosine with a warm-up": lambda step, epoch: min((step + 1) / 15, half_cosine((step - 14) / 46)),
    "step": lambda step, epoch: 0.3 ** (epoch // 3),
    "multi_step": lambda step, epoch: 0.3 ** ((epoch >= 1) + (epoch >= 4) + (epoch >= 5)),
    "exponential": lambda step, epoch: 0.3**epoch,
    "plateau": lambda step, epoch: 0.3 ** NUM_FALLS[epoch],
}
"""What the learning rate is multiplied by, by the step of the training and its epoch, from 0."""


class Schedules:
    """The schedulers of a training, stepped as the training loop steps them."""

    def __init__(self, optimizer: Optimizer, **options: Any) -> None:
        settled = train_options(epochs=NUM_EPOCHS, **options)
        self.optimizer = optimizer
        self.schedule = make_schedule(optimizer, settled, NUM_STEPS)
        self.plateau = make_plateau(optimizer, settled)

    def take_step(self, number: int, val_losses: list[float] = VAL_LOSSES) -> None:
        """Finish step ``number`` of the training, counted from 1."""
        self.optimizer.step()
        self.schedule.step()
        if self.plateau is not None and number % NUM_STEPS == 0:
            self.plateau.step(val_losses[number // NUM_STEPS - 1])

    def state_dicts(self) -> dict[str, Any]:
        plateau = {} if self.plateau is None else self.plateau.state_dict()
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "plateau": plateau,
        }

    def load(self, values: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        if self.plateau is not None:
            self.plateau.load_state_dict(values["plateau"])


def some_groups() -> Optimizer:
    """Return an optimizer of three groups with different learning rates."""
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS])


def lrs_of(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def all_rates(val_losses: list[float] = VAL_LOSSES, **options: Any) -> list[list[float]]:
    """Return the learning rates of the groups in each step."""
    schedules = Schedules(some_groups(), **options)
    rates = []
    for number in range(1, TOTAL_STEPS + 1):
        rates.append(lrs_of(schedules.optimizer))
        schedules.take_step(number, val_losses)
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_is_the_formulas(name: str) -> None:
    rates = all_rates(**SCHEDULES[name])
    expected = [[lr * FACTORS[name](step, step // NUM_STEPS) for lr in LRS] for step in range(60)]
    for lrs, of_formula in zip(rates, expected, strict=True):
        assert lrs == pytest.approx(of_formula, rel=1e-12, abs=0)
    for other in SCHEDULES.keys() - {name}:
        others = zip(all_rates(**SCHEDULES[other]), expected, strict=True)
        assert any(lrs != pytest.approx(of_formula, rel=1e-12, abs=0) for lrs, of_formula in others)


def rates(num_steps: int, **changes: Any) -> list[float]:
    """Return the learning rate of each step of a training of one epoch."""
    options = train_options(epochs=1, **changes)
    optimizer = make_optimizer(nn.Linear(1, 1), options)
    schedule = make_schedule(optimizer, options, num_steps)
    values = []
    for _ in range(num_steps):
        values.append(optimizer.param_groups[0]["lr"])
        assert {group["lr"] for group in optimizer.param_groups} == {values[-1]}
        assert {group.get("momentum") for group in optimizer.param_groups} == {options.momentum}
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize("warmup_fraction", [0.2, 0.3, 0.75])
@pytest.mark.parametrize("num_steps", [13, 200])
def test_one_cycle_is_the_papers(num_steps: int, warmup_fraction: float) -> None:
    values = rates(num_steps, lr=0.4, warmup_fraction=warmup_fraction)
    formula = [one_cycle(step, num_steps, 0.4, warmup_fraction) for step in range(num_steps)]
    assert values == pytest.approx(formula)
    assert values != pytest.approx([one_cycle(s, num_steps, 0.4, 0.5) for s in range(num_steps)])


def test_one_cycle_rises_to_lr_and_ends_near_zero() -> None:
    values = rates(200, lr=0.4, warmup_fraction=0.3)
    assert values[0] == pytest.approx(0.4 / 25)
    assert max(values) == pytest.approx(0.4, rel=1e-3)
    assert 0 < values[-1] < 0.4 / 1000
    assert values.index(max(values)) == pytest.approx(0.3 * 200, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_any_number_of_steps_goes_with_any_warmup(schedule: str) -> None:
    unfit = []
    for num_steps in range(1, 60):
        for warmup_fraction in (0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9, 0.999):
            try:
                values = rates(num_steps, lr=0.4, schedule=schedule, warmup_fraction=warmup_fraction)
            except ArithmeticError as error:
                unfit.append((num_steps, warmup_fraction, repr(error)))
                continue
            assert all(0 < value <= 0.4 * (1 + 1e-9) for value in values), (num_steps, warmup_fraction)
    assert unfit == []


def test_cosine_rises_in_equal_parts_to_lr_and_falls_by_half_a_cosine() -> None:
    values = rates(20, lr=0.4, schedule="cosine", warmup_fraction=0.25)
    assert values[:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4], rel=1e-15)
    assert values[4] == 0.4
    assert values[4 + 8] == pytest.approx(0.2)  # halfway through the sixteen steps after the peak
    assert values[-1] == pytest.approx(0.2 * (1 + math.cos(math.pi * 15 / 16)))
    without_warmup = rates(20, lr=0.4, schedule="cosine", warmup_fraction=0)
    assert without_warmup[0] == 0.4
    assert without_warmup == sorted(without_warmup, reverse=True)


def test_constant_is_constant() -> None:
    assert rates(20, lr=0.4, schedule="constant", warmup_fraction=None) == [0.4] * 20
    assert len(set(rates(20, lr=0.4))) > 10


def test_plateau_waits_for_a_validation_loss_that_falls() -> None:
    falling = [1 - 0.01 * epoch for epoch in range(NUM_EPOCHS)]
    assert all(lrs == LRS for lrs in all_rates(falling, **SCHEDULES["plateau"]))
    still = all_rates([1.0] * NUM_EPOCHS, **SCHEDULES["plateau"])
    # the first epoch is the best; the rate falls after two more, and then after every two
    by_epoch = [still[epoch * NUM_STEPS][0] for epoch in range(NUM_EPOCHS)]
    falls = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert by_epoch == pytest.approx([0.4 * 0.3**count for count in falls], rel=1e-12)


def test_plateau_lowers_the_smallest_rates_too() -> None:
    rates = all_rates(
        [1.0] * NUM_EPOCHS, schedule="plateau", decay_epochs=1, **FALLS | {"decay_factor": 1e-3}
    )
    assert rates[-1] == pytest.approx([lr * 1e-12 for lr in LRS], rel=1e-12)


# resuming


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_resumed_at_any_step_continues_the_same(name: str) -> None:
    expected = all_rates(**SCHEDULES[name])
    schedules = Schedules(some_groups(), **SCHEDULES[name])
    for done in range(len(expected)):
        if done:
            schedules.take_step(done)
        resumed = Schedules(some_groups(), **SCHEDULES[name])
        resumed.load(through_a_file(schedules.state_dicts()))
        for step in range(done, len(expected)):
            assert lrs_of(resumed.optimizer) == expected[step], (done, step)
            resumed.take_step(step + 1)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
def test_one_changed_value_of_a_schedules_state_changes_the_rates(name: str) -> None:
    schedules = Schedules(some_groups(), **SCHEDULES[name])
    for number in range(1, 15):
        schedules.take_step(number)
    values = through_a_file(schedules.state_dicts())
    part, changes = "schedule", {"last_epoch": 5}
    if name == "plateau":
        part, changes = "plateau", {"best": -1, "num_bad_epochs": 1}

    def rates_after(values: dict[str, Any]) -> list[list[float]]:
        resumed = Schedules(some_groups(), **SCHEDULES[name])
        resumed.load(values)
        rates = [lrs_of(resumed.optimizer)]
        for number in range(15, 49):
            resumed.take_step(number)
            rates.append(lrs_of(resumed.optimizer))
        return rates

    for key, change in changes.items():
        changed = {**values, part: {**values[part], key: values[part][key] + change}}
        assert rates_after(changed) != rates_after(values), key


# in the state of a training


def test_the_rate_of_a_state_is_the_maximum_over_its_groups() -> None:
    options = train_options(lr=0.1, lr_factors={"backbone": 0.1}, **SCHEDULES["constant"])
    state = TrainingState(Layered(), options, 1)
    loss = make_loss(one_class, options, ["a", "b"], [1, 1], 2, torch.device("cpu"))
    batch = TrainBatch(torch.randn(8, 4), torch.arange(8) % 2)
    train_one_epoch(state, state.model, lambda epoch, step: [batch], loss, options, 0)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert state.lr == 0.1
