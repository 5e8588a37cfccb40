"""Losses by name. Each maps logits and targets to one loss per image."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.errors import UserError, did_you_mean, listed
from darkroom.loading.batches import TrainBatch

if TYPE_CHECKING:
    from darkroom.config.train import Train

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits, float ``(n, num_classes)``, and targets, int64 ``(n,)`` or, if an image may have several
labels, float32 ``(n, num_classes)`` of 0 and 1; returns float ``(n,)`` in nats."""


def make_loss(
    options: "Train",
    class_names: Sequence[str],
    counts: Sequence[int],
    device: torch.device,
    num_images: int | None = None,
) -> Loss:
    """Return the loss that the options name.

    Losses are computed in float32 or more: with the eight significant bits that logits have under
    autocast, the logarithm of a probability near 1 is 0.

    Args:
        counts: number of training images of each class.
        num_images: number of training images, if an image may have several labels; None if it has one.

    Raises:
        UserError: the loss or a class weight does not fit the data.
    """
    multi_label = num_images is not None
    _check(options, len(class_names), multi_label)
    weight = _class_weights(options.class_weights, class_names, counts, num_images)
    weight = None if weight is None else weight.to(device)
    smoothing, gamma = options.label_smoothing, options.focal_gamma

    def select_targets(per_class: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, given the loss for each class as the target: ``(n, num_classes)``."""
        if weight is not None:
            per_class = per_class * weight
        own = per_class.gather(1, targets[:, None])[:, 0]
        return own if smoothing == 0 else (1 - smoothing) * own + smoothing * per_class.mean(dim=1)

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, weight=weight, reduction="none", label_smoothing=smoothing
        )

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        return select_targets(-logits.log_softmax(dim=1), targets)

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        return select_targets(_focal(logits.log_softmax(dim=1), gamma), targets)

    def bce_two_classes(logits: Tensor, targets: Tensor) -> Tensor:
        # the softmax of two logits is the sigmoid of their difference
        difference = logits[:, 1] - logits[:, 0]
        return select_targets(-F.logsigmoid(torch.stack((-difference, difference), dim=1)), targets)

    def bce_multi_label(logits: Tensor, targets: Tensor) -> Tensor:
        positive = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(
            logits, positive, pos_weight=weight, reduction="none"
        ).mean(dim=1)

    def focal_multi_label(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        positive = targets * (1 - smoothing) + smoothing / 2
        if_positive = _focal(F.logsigmoid(logits), gamma)
        if_negative = _focal(F.logsigmoid(-logits), gamma)
        if weight is not None:
            if_positive = if_positive * weight
        return (positive * if_positive + (1 - positive) * if_negative).mean(dim=1)

    losses: dict[str, Loss] = {"bce": bce_multi_label, "focal": focal_multi_label}
    if not multi_label:
        losses = {"cross_entropy": cross_entropy, "nll": nll, "focal": focal, "bce": bce_two_classes}
    chosen = losses[options.loss]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return chosen(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)

    return loss


def losses_of(logits: Tensor, batch: TrainBatch, loss: Loss) -> Tensor:
    """Return the loss of each image of a batch: float ``(n,)``.

    The loss of a mixed image is the mean of the losses for its two targets, weighted by their shares
    (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018).
    """
    losses = loss(logits, batch.targets)
    if batch.other_targets is not None and batch.shares is not None:
        losses = batch.shares * losses + (1 - batch.shares) * loss(logits, batch.other_targets)
    return losses if batch.weights is None else losses * batch.weights


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Return ``n / (num_classes * count)``, like scikit-learn's ``class_weight="balanced"``.

    The weight of a class without images is 1.
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def _focal(log_p: Tensor, gamma: float) -> Tensor:
    """Return ``-(1 - p) ** gamma * log p``.

    From Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """
    # 1 - exp(log p) loses all digits when p is near 1. When p is rounded to 1, the derivative of the
    # power is infinite for a gamma below 1, and it is multiplied by a logarithm of 0.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(rest**gamma) * log_p


def _class_weights(
    weights: Literal["balanced"] | Mapping[str, float] | None,
    class_names: Sequence[str],
    counts: Sequence[int],
    num_images: int | None,
) -> Tensor | None:
    """Return the class weights, float32 ``(num_classes,)``, or None if there are none.

    If each image has one label, their mean over the training images is 1, so that they do not change the
    scale of the learning rate.
    """
    if weights is None:
        return None
    if weights == "balanced":
        if num_images is None:
            return torch.tensor(balanced_weights(counts))
        # negatives per positive; a label of no image or of all images cannot be balanced
        return torch.tensor(
            [(num_images - count) / count if 0 < count < num_images else 1.0 for count in counts]
        )
    for name in weights:
        if name not in class_names:
            near = did_you_mean(name, class_names)
            raise UserError(
                f"train.class_weights: {name!r} is not a class of the data{near or '.'} "
                f"The classes are: {listed(class_names)}"
            )
    by_class = torch.tensor([weights.get(name, 1.0) for name in class_names])
    if num_images is not None:
        return by_class
    num_by_class = torch.tensor(counts, dtype=torch.float64)
    return (by_class * num_by_class.sum() / (by_class * num_by_class).sum()).float()


def _check(options: "Train", num_classes: int, multi_label: bool) -> None:
    if multi_label and options.loss in ("cross_entropy", "nll"):
        raise UserError(
            f"train.loss: {options.loss} needs one label per image, and these images may have several; "
            "use bce or focal"
        )
    if not multi_label and options.loss == "bce" and num_classes != 2:
        raise UserError(
            f"train.loss: bce needs two classes or several labels per image, and this dataset has "
            f"{num_classes} classes and one label per image; use cross_entropy or focal"
        )
