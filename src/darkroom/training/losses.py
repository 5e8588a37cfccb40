"""Losses, by name: each maps logits and targets to the loss of every image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.config.train import Train
from darkroom.errors import UserError, did_you_mean, listed
from darkroom.loading.batches import TrainBatch

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits, float ``(n, num_classes)``, and targets, int64 ``(n,)`` or, where an image has several
labels, float32 ``(n, num_classes)`` of 0 and 1; returns float ``(n,)`` in nats."""


def make_loss(
    options: Train,
    class_names: Sequence[str],
    counts: Sequence[int],
    device: torch.device,
    num_images: int | None = None,
) -> Loss:
    """Makes the loss that the options name.

    All are computed in float32 at least: in eight bits, as logits have under autocast, the logarithm of
    a probability near 1 is 0.

    Args:
        counts: training images of each class.
        num_images: of the training, where an image may have several labels; None: each has one.

    Raises:
        UserError: the loss, or a class weight, does not go with such data.
    """
    several = num_images is not None
    _check(options, len(class_names), several)
    weight = _class_weights(options.class_weights, class_names, counts, num_images)
    weight = None if weight is None else weight.to(device)
    smoothing, gamma = options.label_smoothing, options.focal_gamma

    def of_targets(per_class: Tensor, targets: Tensor) -> Tensor:
        """Takes the loss if each class were the target, ``(n, num_classes)``."""
        if weight is not None:
            per_class = per_class * weight
        own = per_class.gather(1, targets[:, None])[:, 0]
        return own if smoothing == 0 else (1 - smoothing) * own + smoothing * per_class.mean(dim=1)

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, weight=weight, reduction="none", label_smoothing=smoothing
        )

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        return of_targets(-logits.log_softmax(dim=1), targets)

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        return of_targets(_focal(logits.log_softmax(dim=1), gamma), targets)

    def bce_of_two(logits: Tensor, targets: Tensor) -> Tensor:
        # the softmax of two logits is the sigmoid of their difference
        difference = logits[:, 1] - logits[:, 0]
        return of_targets(-F.logsigmoid(torch.stack((-difference, difference), dim=1)), targets)

    def bce_of_several(logits: Tensor, targets: Tensor) -> Tensor:
        positive = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(
            logits, positive, pos_weight=weight, reduction="none"
        ).mean(dim=1)

    def focal_of_several(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        positive = targets * (1 - smoothing) + smoothing / 2
        if_positive = _focal(F.logsigmoid(logits), gamma)
        if_negative = _focal(F.logsigmoid(-logits), gamma)
        if weight is not None:
            if_positive = if_positive * weight
        return (positive * if_positive + (1 - positive) * if_negative).mean(dim=1)

    losses: dict[str, Loss] = {"bce": bce_of_several, "focal": focal_of_several}
    if not several:
        losses = {"cross_entropy": cross_entropy, "nll": nll, "focal": focal, "bce": bce_of_two}
    chosen = losses[options.loss]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return chosen(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)

    return loss


def losses_of(logits: Tensor, batch: TrainBatch, loss: Loss) -> Tensor:
    """Returns the loss of each image of a batch: float ``(n,)``.

    That of a mixed image is the mean of its two targets', by their shares (Zhang et al., "mixup:
    Beyond Empirical Risk Minimization", 2018).
    """
    losses = loss(logits, batch.targets)
    if batch.other_targets is not None and batch.shares is not None:
        losses = batch.shares * losses + (1 - batch.shares) * loss(logits, batch.other_targets)
    return losses if batch.weights is None else losses * batch.weights


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Returns ``n / (num_classes * count)``, as scikit-learn's ``class_weight="balanced"``; 1 for a
    class without images."""
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def _focal(log_p: Tensor, gamma: float) -> Tensor:
    """Returns ``-(1 - p) ** gamma * log p``.

    From Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """
    # Where p is near 1, 1 - exp(log p) would have no digits left; and where it is 1 in all digits, the
    # derivative of the power is infinite for a gamma below 1, times a logarithm of 0.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(rest**gamma) * log_p


def _class_weights(
    asked: Literal["balanced"] | Mapping[str, float] | None,
    class_names: Sequence[str],
    counts: Sequence[int],
    num_images: int | None,
) -> Tensor | None:
    """Returns float32 ``(num_classes,)``.

    Where an image has one label they are 1 in the mean over the training images, so that they do not
    change what a learning rate means.
    """
    if asked is None:
        return None
    if asked == "balanced":
        if num_images is None:
            return torch.tensor(balanced_weights(counts))
        # negatives to positives; a label of no image, or of all, has nothing to be balanced
        return torch.tensor(
            [(num_images - count) / count if 0 < count < num_images else 1.0 for count in counts]
        )
    for name in asked:
        if name not in class_names:
            near = did_you_mean(name, class_names)
            raise UserError(
                f"train.class_weights: {name!r} is no class of the data{near or '.'} "
                f"There are: {listed(class_names)}"
            )
    weights = torch.tensor([asked.get(name, 1.0) for name in class_names])
    if num_images is not None:
        return weights
    per_class = torch.tensor(counts, dtype=torch.float64)
    return (weights * per_class.sum() / (weights * per_class).sum()).float()


def _check(options: Train, num_classes: int, several: bool) -> None:
    if several and options.loss in ("cross_entropy", "nll"):
        raise UserError(
            f"train.loss: {options.loss} takes one label an image, and here an image may have several; "
            "take bce, or focal"
        )
    if not several and options.loss == "bce" and num_classes != 2:
        raise UserError(
            f"train.loss: bce is for two classes, or several labels an image, and here are "
            f"{num_classes} classes that exclude each other; take cross_entropy, or focal"
        )
