"""The learning rate of each step, against torch's schedulers and the formulas."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import Layered, one_cycle, train_options
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from darkroom.training.optim import make_optimizer
from darkroom.training.schedule import Schedule, make_schedule
from darkroom.training.state import EpochResult, TrainingState

NUM_EPOCHS = 10
STEPS_EACH = 6
LRS = [0.4, 0.04, 0.123]
VAL_LOSSES = [2.0, 1.5, 1.4999, 1.6, 1.49, 1.7, 1.48999, 1.9, 1.9, 1.2]

FALLS: dict[str, Any] = {"warmup_fraction": None, "decay_factor": 0.3}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"schedule": "constant", "warmup_fraction": None},
    "one_cycle": {"schedule": "one_cycle", "warmup_fraction": 0.3},
    "cosine": {"schedule": "cosine", "warmup_fraction": 0.0},
    "cosine with a rise": {"schedule": "cosine", "warmup_fraction": 0.25},
    "step": {"schedule": "step", "decay_epochs": 3, **FALLS},
    "multi_step": {"schedule": "multi_step", "decay_epochs": [1, 4, 5], **FALLS},
    "exponential": {"schedule": "exponential", **FALLS},
    "plateau": {"schedule": "plateau", "decay_epochs": 1, **FALLS},
}

# torch's, which are stepped after each step (of 60, of which 15 rise) or after each epoch
EACH_STEP: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "constant": lambda optimizer: ConstantLR(optimizer, factor=1.0),
    "one_cycle": lambda optimizer: OneCycleLR(
        optimizer, LRS, total_steps=61, pct_start=0.3, cycle_momentum=False
    ),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 60),
    "cosine with a rise": lambda optimizer: SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=1 / 15, total_iters=14),
            CosineAnnealingLR(optimizer, 60 - 14),
        ],
        milestones=[14],
    ),
}
EACH_EPOCH: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "step": lambda optimizer: StepLR(optimizer, 3, gamma=0.3),
    "multi_step": lambda optimizer: MultiStepLR(optimizer, [1, 4, 5], gamma=0.3),
    "exponential": lambda optimizer: ExponentialLR(optimizer, gamma=0.3),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.3, patience=1),
}


def some_groups() -> Optimizer:
    """An optimizer of three groups, each with a learning rate of its own."""
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS])


def lrs_of(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def new_schedule(optimizer: Optimizer, **options: Any) -> Schedule:
    return make_schedule(optimizer, train_options(epochs=NUM_EPOCHS, **options), STEPS_EACH)


def take_step(schedule: Schedule, done: int, val_losses: list[float]) -> None:
    """Moves on to the step ``done``, as the training loop does."""
    schedule.step()
    if done % STEPS_EACH == 0:
        schedule.finish_epoch(val_losses[done // STEPS_EACH - 1])


def all_rates(val_losses: list[float] = VAL_LOSSES, **options: Any) -> list[list[float]]:
    """The learning rates of the groups in each step."""
    optimizer = some_groups()
    schedule = new_schedule(optimizer, **options)
    rates = []
    for done in range(1, NUM_EPOCHS * STEPS_EACH + 1):
        rates.append(lrs_of(optimizer))
        take_step(schedule, done, val_losses)
    return rates


def torchs_rates(name: str) -> list[list[float]]:
    optimizer = some_groups()
    scheduler = (EACH_STEP | EACH_EPOCH)[name](optimizer)
    rates = []
    for done in range(1, NUM_EPOCHS * STEPS_EACH + 1):
        rates.append(lrs_of(optimizer))
        optimizer.step()
        if name in EACH_STEP:
            scheduler.step()
        elif done % STEPS_EACH == 0:
            val_loss = [VAL_LOSSES[done // STEPS_EACH - 1]] if name == "plateau" else []
            scheduler.step(*val_loss)
    return rates


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # by torch's SequentialLR
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_is_torchs(name: str) -> None:
    rates, expected = all_rates(**SCHEDULES[name]), torchs_rates(name)
    for lrs, torchs in zip(rates, expected, strict=True):
        assert lrs == pytest.approx(torchs, rel=1e-12, abs=0)
    for other in SCHEDULES.keys() - {name}:
        others = zip(all_rates(**SCHEDULES[other]), expected, strict=True)
        assert any(lrs != pytest.approx(torchs, rel=1e-12, abs=0) for lrs, torchs in others)


@pytest.mark.parametrize("warmup_fraction", [0.05, 0.1, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("num_epochs", [4, 5, 33])
def test_one_cycle_is_torchs_to_the_bit(num_epochs: int, warmup_fraction: float) -> None:
    ours, torchs = some_groups(), some_groups()
    options = train_options(epochs=num_epochs, warmup_fraction=warmup_fraction)
    schedule = make_schedule(ours, options, STEPS_EACH)
    num_steps = num_epochs * STEPS_EACH
    expected = OneCycleLR(
        torchs, LRS, total_steps=num_steps + 1, pct_start=warmup_fraction, cycle_momentum=False
    )
    for _ in range(num_steps):
        assert lrs_of(ours) == lrs_of(torchs)
        torchs.step()
        schedule.step()
        expected.step()
    assert lrs_of(ours) == lrs_of(torchs)


def rates(num_steps: int, **changes: Any) -> list[float]:
    """The learning rate of each step of one epoch, with an optimizer of ours."""
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
def test_one_cycle_is_torchs_and_the_papers(num_steps: int, warmup_fraction: float) -> None:
    values = rates(num_steps, lr=0.4, warmup_fraction=warmup_fraction)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    torchs = OneCycleLR(optimizer, 0.4, total_steps=num_steps + 1, pct_start=warmup_fraction)
    expected = []
    for _ in range(num_steps):
        expected += torchs.get_last_lr()
        optimizer.step()
        torchs.step()
    assert values == expected
    formula = [one_cycle(step, num_steps, 0.4, warmup_fraction) for step in range(num_steps)]
    assert values == pytest.approx(formula)
    assert values != pytest.approx([one_cycle(s, num_steps, 0.4, 0.5) for s in range(num_steps)])


def test_one_cycle_rises_to_lr_and_ends_near_zero() -> None:
    values = rates(200, lr=0.4, warmup_fraction=0.3)
    assert values[0] == pytest.approx(0.4 / 25)
    assert max(values) == pytest.approx(0.4, rel=1e-3)
    assert 0 < values[-1] < 0.4 / 1000
    assert values.index(max(values)) == pytest.approx(0.3 * 200, abs=1)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_rise_and_fall_take_any_number_of_steps_and_any_warmup(schedule: str) -> None:
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
    assert values[4 + 8] == pytest.approx(0.2)  # of sixteen steps after the peak, half way
    assert values[-1] == pytest.approx(0.2 * (1 + math.cos(math.pi * 15 / 16)))
    at_once = rates(20, lr=0.4, schedule="cosine", warmup_fraction=0)
    assert at_once[0] == 0.4
    assert at_once == sorted(at_once, reverse=True)


def test_constant_is_constant() -> None:
    assert rates(20, lr=0.4, schedule="constant", warmup_fraction=None) == [0.4] * 20
    assert len(set(rates(20, lr=0.4))) > 10


def test_plateau_waits_for_a_validation_loss_that_falls() -> None:
    falling = [1 - 0.01 * epoch for epoch in range(NUM_EPOCHS)]
    assert all(lrs == LRS for lrs in all_rates(falling, **SCHEDULES["plateau"]))
    still = all_rates([1.0] * NUM_EPOCHS, **SCHEDULES["plateau"])
    # the first epoch is the best; two more are waited for, and after each two more again
    by_epoch = [still[epoch * STEPS_EACH][0] for epoch in range(NUM_EPOCHS)]
    falls = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert by_epoch == pytest.approx([0.4 * 0.3**count for count in falls], rel=1e-12)


# resuming


def through_a_file(values: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_resumed_at_any_step_goes_on_the_same(name: str) -> None:
    expected = all_rates(**SCHEDULES[name])
    optimizer = some_groups()
    schedule = new_schedule(optimizer, **SCHEDULES[name])
    for done in range(len(expected)):
        if done:
            take_step(schedule, done, VAL_LOSSES)
        again = some_groups()
        resumed = new_schedule(again, **SCHEDULES[name])
        resumed.load_state_dict(through_a_file(schedule.state_dict()))
        for step in range(done, len(expected)):
            assert lrs_of(again) == expected[step], (done, step)
            take_step(resumed, step + 1, VAL_LOSSES)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
def test_one_changed_value_of_a_schedules_state_changes_the_rates(name: str) -> None:
    schedule = new_schedule(some_groups(), **SCHEDULES[name])
    for done in range(1, 15):
        take_step(schedule, done, VAL_LOSSES)
    values = schedule.state_dict()
    changes = {"num_falls": 1, "best": -1.0, "num_waited": 1} if name == "plateau" else {"step": 6}

    def rates_after(values: dict[str, Any]) -> list[list[float]]:
        optimizer = some_groups()
        resumed = new_schedule(optimizer, **SCHEDULES[name])
        resumed.load_state_dict(values)
        rates = [lrs_of(optimizer)]
        for done in range(15, 49):
            take_step(resumed, done, VAL_LOSSES)
            rates.append(lrs_of(optimizer))
        return rates

    for key, change in changes.items():
        assert rates_after({**values, key: values[key] + change}) != rates_after(values), key


def test_groups_are_set_also_after_the_optimizer_was_restored() -> None:
    """A restored optimizer has new groups in place of the old."""
    optimizer = some_groups()
    schedule = new_schedule(optimizer, **SCHEDULES["exponential"])
    optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(STEPS_EACH):
        schedule.step()
    assert lrs_of(optimizer) == pytest.approx([0.3 * lr for lr in LRS])


# in the state of a training


def result_of(val_loss: float) -> EpochResult:
    return EpochResult(
        epoch=1,
        lr=0.0,
        train_loss=1.0,
        grad_norm=None,
        val_loss=val_loss,
        val_accuracy=0.5,
        val_f1_macro=0.5,
        val_f1_standard_error=0.1,
        is_best=False,
        is_kept=False,
    )


@pytest.mark.parametrize(("val_loss", "falls"), [(1.0, True), (0.5, False)])
def test_the_state_hands_the_validation_loss_on(val_loss: float, falls: bool) -> None:
    options = train_options(lr=0.1, **SCHEDULES["plateau"])
    state = TrainingState(Layered(), options, STEPS_EACH)
    for loss in (1.0, 1.0, val_loss):
        state.finish_epoch(result_of(loss))
    assert lrs_of(state.optimizer) == pytest.approx([0.03 if falls else 0.1] * 2)


def test_the_rate_of_a_state_is_that_of_the_head() -> None:
    options = train_options(lr=0.1, lr_factors={"backbone": 0.1}, **SCHEDULES["constant"])
    state = TrainingState(Layered(), options, STEPS_EACH)
    state.finish_step(1)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert state.lr == 0.1
