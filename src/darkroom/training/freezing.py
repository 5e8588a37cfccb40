"""Freezing: which parameters are trained in an epoch."""

from typing import TYPE_CHECKING

from torch import nn

from darkroom.models.trainable import parameters_by_name, trainable_in

if TYPE_CHECKING:
    from darkroom.config.train import Train


def set_trainable(model: nn.Module, epoch: int, options: "Train") -> None:
    """Freeze all parameters except those that are trained in ``epoch``, counted from 1.

    Call this after ``model.train()``. A normalisation layer whose own parameters are all frozen also
    keeps its running statistics and normalises with them, as in evaluation. A backbone that is frozen as
    a whole computes the same features as in evaluation: without dropout or stochastic depth.

    Raises:
        UserError: see ``trainable_in``.
    """
    named = parameters_by_name(model)
    unfreeze = [(entry.epoch, entry.layers) for entry in options.unfreeze]
    trainable = trainable_in(epoch, named, options.freeze, unfreeze)
    for name, parameter in named.items():
        parameter.requires_grad_(name in trainable)
        if name not in trainable:
            parameter.grad = None  # else the optimizer would apply decay and momentum to it
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if _has_running_statistics(module) and own and not any(p.requires_grad for p in own):
            module.eval()
    backbone = getattr(getattr(model, "network", model), "backbone", None)
    if backbone is not None and not any(p.requires_grad for p in backbone.parameters()):
        backbone.eval()


def _has_running_statistics(module: nn.Module) -> bool:
    return any(name == "running_var" for name, _ in module.named_buffers(recurse=False))
