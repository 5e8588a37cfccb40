"""The learning-rate schedule: PyTorch's scheduler for each value of ``train.schedule``."""

import math
import warnings
from typing import TYPE_CHECKING

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

if TYPE_CHECKING:
    from darkroom.config.train import Train


def make_schedule(optimizer: Optimizer, options: "Train", num_steps: int) -> LRScheduler:
    """Return the scheduler to step after each optimizer step, over all ``options.epochs``.

    For ``plateau`` it is constant: the scheduler that ``make_plateau`` returns lowers the rate.

    Args:
        num_steps: optimizer steps per epoch.
    """
    # in float16 the gradient scaler may skip the first optimizer step, of which PyTorch would warn
    warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)
    total_steps = options.epochs * num_steps
    warmup, epochs, factor = options.warmup_fraction, options.decay_epochs, options.decay_factor
    if options.schedule == "one_cycle":
        assert warmup is not None
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total_steps + 1,  # the last rate, almost 0, would be that of a further step
            # OneCycleLR divides by zero if the rate rises for exactly one step
            pct_start=max(warmup, (1 + 1e-6) / (total_steps + 1)),
            cycle_momentum=False,
        )
    if options.schedule == "cosine":
        assert warmup is not None
        return LambdaLR(optimizer, lambda step: cosine(step, total_steps, warmup))
    if options.schedule == "step":
        assert isinstance(epochs, int)
        assert factor is not None
        return StepLR(optimizer, epochs * num_steps, factor)
    if options.schedule == "multi_step":
        assert isinstance(epochs, list)
        assert factor is not None
        return MultiStepLR(optimizer, [epoch * num_steps for epoch in epochs], factor)
    if options.schedule == "exponential":
        assert factor is not None
        return StepLR(optimizer, num_steps, factor)
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def make_plateau(optimizer: Optimizer, options: "Train") -> ReduceLROnPlateau | None:
    """Return the scheduler to step with each epoch's validation loss; None except for ``plateau``."""
    if options.schedule != "plateau":
        return None
    assert isinstance(options.decay_epochs, int)
    assert options.decay_factor is not None
    return ReduceLROnPlateau(
        optimizer,
        factor=options.decay_factor,
        patience=options.decay_epochs,
        eps=0,  # lower the rate however small it is
    )


def cosine(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Return the factor of the learning rate for a linear warm-up to 1 and half a cosine towards 0.

    Without restarts (Loshchilov and Hutter, "SGDR", 2017); the warm-up is that of Goyal et al.,
    "Accurate, Large Minibatch SGD", 2017. The rate is never 0: neither the first nor the last step
    would change anything.
    """
    num_warmup = max(round(warmup_fraction * num_steps), 1)
    if step < num_warmup:
        return (step + 1) / num_warmup
    peak = num_warmup - 1
    return (1 + math.cos(math.pi * (step - peak) / (num_steps - peak))) / 2
