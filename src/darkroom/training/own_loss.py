"""Losses from a Python file of the user: ``train.loss: file:own/train/losses.py:smooth``.

What is named is called with ``logits`` and ``targets``, and with those of ``LOSS_OPTIONS`` that it
takes. It returns the loss of each image, float ``(n,)``.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from darkroom.errors import UserError
from darkroom.own_files import load
from darkroom.own_names import LOSS_OPTIONS, mistakes_of_loss

if TYPE_CHECKING:
    from darkroom.config.train import Train
    from darkroom.training.losses import LossFunction
    from darkroom.training.targets.interface import TrainingTarget

OPTION = "train.loss"


def own_loss(
    target: "TrainingTarget",
    options: "Train",
    weight: Tensor | None,
    num_classes: int,
    device: torch.device,
) -> "LossFunction":
    """Return the loss that the options name, after trying it on made-up logits.

    Args:
        weight: of each class, float32 ``(num_classes,)``, or None.

    Raises:
        UserError: the file cannot be used, or what it defines is no loss.
    """
    with torch.random.fork_rng(devices=[]):
        own = load(OPTION, options.loss)
    arguments = own.arguments()
    for name, problem in mistakes_of_loss(own.name, arguments, dict(options)):
        raise UserError(f"{name}: {problem}")
    values: dict[str, Any] = {name: getattr(options, name) for name in LOSS_OPTIONS}
    values["class_weights"] = weight
    taken = {name: value for name, value in values.items() if name in arguments.taken}

    def function(logits: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = own.value(logits=logits, targets=targets, **taken)
        _check(losses, len(logits), f"{own.name}")
        return losses

    def tried() -> tuple[Tensor, Tensor]:
        logits, targets = target.example(num_classes)
        logits = logits.to(device).requires_grad_()
        try:
            losses = function(logits, targets.to(device))
            gradient = torch.autograd.grad(losses.sum(), logits)[0]
        except UserError:
            raise
        except Exception as error:
            shapes = f"logits {tuple(logits.shape)}, targets {tuple(targets.shape)} of {targets.dtype}"
            raise UserError(f"{OPTION}: {own.place(error)}, for {shapes}") from None
        return losses.detach(), gradient

    with torch.random.fork_rng(devices=[]):
        (first, gradient), (second, _) = tried(), tried()
    if not torch.equal(first, second):
        raise UserError(f"{OPTION}: {own.name} returns other losses for the same logits and targets")
    if not (first.isfinite().all() and gradient.isfinite().all()):
        raise UserError(f"{OPTION}: {own.name} returns losses or gradients that are not finite")
    return function


def _check(losses: object, num_images: int, name: str) -> None:
    """Check what a loss returned.

    Raises:
        UserError: it is not one number per image.
    """
    if not isinstance(losses, Tensor):
        returned = f"a {type(losses).__name__}"
    elif losses.shape != (num_images,) or not losses.is_floating_point():
        returned = f"{str(losses.dtype).removeprefix('torch.')} of shape {tuple(losses.shape)}"
    else:
        return
    raise UserError(
        f"{OPTION}: {name} returns {returned} for {num_images} images; it must return one loss per"
        f" image, float of shape ({num_images},)"
    )
