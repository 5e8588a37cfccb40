"""Losses by name. Each maps logits and targets to one loss per image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from darkroom.errors import UserError, did_you_mean, listed
from darkroom.loading.batches import TrainBatch
from darkroom.own_names import is_own_file
from darkroom.training.own_loss import own_loss

if TYPE_CHECKING:
    from darkroom.config.train import Teacher as TeacherOptions
    from darkroom.config.train import Train
    from darkroom.training.targets.interface import TrainingTarget


LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Takes logits, float ``(n, num_classes)``, and targets, as in ``Batch``; returns float ``(n,)`` in
nats."""


@dataclass(frozen=True)
class Loss:
    """A loss, with the kind of target that it is for."""

    function: LossFunction
    target: "TrainingTarget"
    teacher: "TeacherOptions | None" = None
    """How much the divergence from a teacher's predictions weighs, and at which temperature."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each image, float ``(n,)`` in nats.

        Losses are computed in float32 or more: with the eight significant bits that logits have under
        autocast, the logarithm of a probability near 1 is 0.
        """
        return self.function(_in_float32(logits), targets)

    def with_teacher(self, losses: Tensor, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the losses with the divergence from a teacher's predictions mixed in, float ``(n,)``.

        From Hinton et al., "Distilling the Knowledge in a Neural Network" (2015): the divergence is
        multiplied by the squared temperature, so that its gradient does not depend on it.
        """
        assert self.teacher is not None
        temperature, weight = self.teacher["temperature"], self.teacher["weight"]
        divergence = self.target.divergence(
            _in_float32(logits) / temperature, teacher_logits / temperature
        )
        return (1 - weight) * losses + weight * temperature**2 * divergence


def _in_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def make_loss(
    target: "TrainingTarget",
    options: "Train",
    class_names: Sequence[str],
    counts: Sequence[int],
    num_images: int,
    device: torch.device,
) -> Loss:
    """Return the loss that the options name.

    Args:
        counts: number of training images of each class.
        num_images: number of training images.

    Raises:
        UserError: the loss, the sampling or a class weight does not fit the data.
    """
    target.check(options, len(class_names))
    weight = _class_weights(target, options.class_weights, class_names, counts, num_images)
    weight = None if weight is None else weight.to(device)
    if is_own_file(options.loss):
        function = own_loss(target, options, weight, len(class_names), device)
    else:
        function = target.losses(weight, options.label_smoothing, options.focal_gamma)[options.loss]
    return Loss(function, target, options.teacher)


def losses_of(logits: Tensor, batch: TrainBatch, loss: Loss) -> Tensor:
    """Return the loss of each image of a batch: float ``(n,)``.

    The loss of a mixed image is the mean of the losses for its two targets, weighted by their shares
    (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018).
    """
    losses = loss(logits, batch.targets)
    if batch.other_targets is not None and batch.shares is not None:
        losses = batch.shares * losses + (1 - batch.shares) * loss(logits, batch.other_targets)
    if batch.teacher_logits is not None:
        losses = loss.with_teacher(losses, logits, batch.teacher_logits)
    return losses if batch.weights is None else losses * batch.weights


def focal_term(log_p: Tensor, gamma: float) -> Tensor:
    """Return ``-(1 - p) ** gamma * log p``.

    From Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """
    # 1 - exp(log p) loses all digits when p is near 1. When p is rounded to 1, the derivative of the
    # power is infinite for a gamma below 1, and it is multiplied by a logarithm of 0.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    # torch's power of 0.5, for a gamma of 0.5 or in the derivative for 1.5, differs between CPUs
    return -(gamma * rest.log()).exp() * log_p


def _class_weights(
    target: "TrainingTarget",
    weights: Literal["balanced"] | Mapping[str, float] | None,
    class_names: Sequence[str],
    counts: Sequence[int],
    num_images: int,
) -> Tensor | None:
    """Return the class weights, float32 ``(num_classes,)``, or None if there are none."""
    if weights is None:
        return None
    if weights == "balanced":
        return torch.tensor(target.balanced_weights(counts, num_images))
    for name in weights:
        if name not in class_names:
            near = did_you_mean(name, class_names)
            raise UserError(
                f"train.class_weights: {name!r} is not a class of the data{near or '.'} "
                f"The classes are: {listed(class_names)}"
            )
    return target.scaled_weights(torch.tensor([weights.get(name, 1.0) for name in class_names]), counts)
