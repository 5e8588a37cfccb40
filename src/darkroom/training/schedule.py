"""The learning rate of each step, in closed form: a step of a resumed training has the same."""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Protocol

from torch.optim import Optimizer

LEAST_GAIN = 1e-4
"""Share by which a validation loss must be lower than the best to count as lower."""


class ScheduleOptions(Protocol):
    """What is read of the ``train`` section; its descriptions say what each means."""

    @property
    def epochs(self) -> int: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup_fraction(self) -> float | None: ...
    @property
    def decay_epochs(self) -> int | list[int] | None: ...
    @property
    def decay_factor(self) -> float | None: ...


class Schedule:
    """Sets the learning rates of an optimizer's groups.

    Args:
        optimizer: each group's ``lr`` is the one that its own are made of.
        rate: returns a step's learning rate of that ``lr`` and of the steps before it.
    """

    def __init__(self, optimizer: Optimizer, rate: Callable[[float, int], float]) -> None:
        self._optimizer = optimizer
        self._lrs = [group["lr"] for group in optimizer.param_groups]
        self._rate = rate
        self._step = 0
        self._set()

    def step(self) -> None:
        """Moves on: to be called after each step of the optimizer."""
        self._step += 1
        self._set()

    def finish_epoch(self, val_loss: float) -> None:
        """Takes note of an epoch's validation loss."""

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"step": self._step}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self._step = values["step"]
        self._set()

    def _set(self) -> None:
        for group, lr in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = self._rate(lr, self._step)


class PlateauSchedule(Schedule):
    """Lowers the learning rates where the validation loss has not fallen for ``patience`` epochs.

    torch's ``ReduceLROnPlateau`` of mode min, which says when, but without its smallest fall.
    """

    def __init__(self, optimizer: Optimizer, patience: int, decay_factor: float) -> None:
        self._patience = patience
        self._best = math.inf
        self._num_waited = 0
        self._num_falls = 0
        super().__init__(optimizer, lambda lr, _: lr * decay_factor**self._num_falls)

    def finish_epoch(self, val_loss: float) -> None:
        """Lowers the rates if it is time."""
        if val_loss < self._best * (1 - LEAST_GAIN):
            self._best = val_loss
            self._num_waited = 0
        else:
            self._num_waited += 1
        if self._num_waited > self._patience:
            self._num_falls += 1
            self._num_waited = 0
            self._set()

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            **super().state_dict(),
            "best": self._best,
            "num_waited": self._num_waited,
            "num_falls": self._num_falls,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self._best = values["best"]
        self._num_waited = values["num_waited"]
        self._num_falls = values["num_falls"]
        super().load_state_dict(values)


def make_schedule(optimizer: Optimizer, options: ScheduleOptions, num_steps_per_epoch: int) -> Schedule:
    """Makes the schedule over ``options.epochs`` of so many optimizer steps."""
    name = options.schedule
    num_steps = options.epochs * num_steps_per_epoch
    if name == "constant":
        return Schedule(optimizer, lambda lr, _: lr)
    if name in ("one_cycle", "cosine"):
        warmup_fraction = options.warmup_fraction
        assert warmup_fraction is not None
        rate = one_cycle if name == "one_cycle" else cosine
        return Schedule(optimizer, lambda lr, step: rate(lr, step, num_steps, warmup_fraction))

    factor, epochs = options.decay_factor, options.decay_epochs
    assert factor is not None
    if name == "exponential":
        return Schedule(optimizer, lambda lr, step: lr * factor ** (step // num_steps_per_epoch))
    if name == "multi_step":
        assert isinstance(epochs, list)
        return Schedule(
            optimizer, lambda lr, step: lr * factor ** bisect_right(epochs, step // num_steps_per_epoch)
        )
    assert isinstance(epochs, int)
    if name == "step":
        return Schedule(
            optimizer, lambda lr, step: lr * factor ** (step // num_steps_per_epoch // epochs)
        )
    assert name == "plateau"
    return PlateauSchedule(optimizer, epochs, factor)


def one_cycle(lr: float, step: int, num_steps: int, warmup_fraction: float) -> float:
    """Rises from ``lr / 25`` to ``lr``, and falls to ``lr / 250,000`` after the last step.

    Smith and Topin, "Super-Convergence", 2018, by half a cosine either way, and with the momentum left
    alone. Every rounding is that of torch's ``OneCycleLR``.
    """
    # not of exactly one step, by which the rise would be divided by zero
    warmup_fraction = max(warmup_fraction, (1 + 1e-6) / (num_steps + 1))
    peak = warmup_fraction * (num_steps + 1) - 1
    if step <= peak:
        return _half_cosine(lr / 25, lr, step / peak)
    return _half_cosine(lr, lr / 25 / 1e4, (step - peak) / (num_steps - peak))


def cosine(lr: float, step: int, num_steps: int, warmup_fraction: float) -> float:
    """Rises in equal parts from 0, which no step has, to ``lr``; falls to 0 after the last step.

    Loshchilov and Hutter, "SGDR", 2017, without restarts; Goyal et al., "Accurate, Large Minibatch
    SGD", 2017, for the rise.
    """
    num_rising = max(round(warmup_fraction * num_steps), 1)
    if step < num_rising:
        return lr * ((step + 1) / num_rising)
    peak = num_rising - 1
    return _half_cosine(lr, 0.0, (step - peak) / (num_steps - peak))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1)
