"""Optimizers and schedules, by name."""

from typing import Protocol

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from darkroom.training.lazy_dynamo import put_off_dynamo


class OptimOptions(Protocol):
    """What is read of the ``train`` section; its descriptions say what each means."""

    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float | None: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup_fraction(self) -> float | None: ...


def make_optimizer(model: nn.Module, options: OptimOptions) -> Optimizer:
    """Makes the optimizer; norms and biases (parameters with one dimension) are not decayed."""
    put_off_dynamo()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    # one kernel for all parameters, where there is one
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    if options.optimizer == "adamw":
        return AdamW(groups, lr=options.lr, fused=fused)
    momentum = options.momentum or 0.0
    return SGD(groups, lr=options.lr, momentum=momentum, nesterov=momentum > 0, fused=fused)


def make_schedule(optimizer: Optimizer, options: OptimOptions, num_steps: int) -> LRScheduler:
    """Makes the schedule over ``num_steps`` optimizer steps.

    ``one_cycle`` rises to ``lr`` and then falls to zero (Smith and Topin, "Super-Convergence",
    2018), with the momentum left alone.
    """
    if options.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    assert options.warmup_fraction is not None
    total_steps = num_steps + 1  # the scheduler is stepped once more, after the last step
    # OneCycleLR divides by the length of the rise, which of exactly one step is zero
    warmup_fraction = max(options.warmup_fraction, (1 + 1e-6) / total_steps)
    return OneCycleLR(
        optimizer,
        max_lr=options.lr,
        total_steps=total_steps,
        pct_start=warmup_fraction,
        cycle_momentum=False,
    )
