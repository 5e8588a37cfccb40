"""Losses, by name: each maps logits and targets to the loss of every image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.data.batches import TrainBatch
from darkroom.errors import UserError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits, float ``(n, num_classes)``, and targets, int64 ``(n,)`` or, where an image has several
labels, float32 ``(n, num_classes)`` of 0 and 1; returns float ``(n,)`` in nats."""


class LossOptions(Protocol):
    """What is read of the ``train`` section."""

    @property
    def loss(self) -> str: ...
    @property
    def focal_gamma(self) -> float | None: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def class_weights(self) -> Literal["balanced"] | Mapping[str, float] | None: ...


def make_loss(
    options: LossOptions,
    class_names: Sequence[str],
    counts: Sequence[int],
    device: torch.device,
    num_images: int | None = None,
) -> Loss:
    """Makes the loss that the options name.

    Args:
        counts: training images of each class.
        num_images: for training, where an image has several labels; None: each has one.

    Raises:
        UserError: the loss, or a class weight, does not go with such data.
    """
    several = num_images is not None
    _check(options, len(class_names), several)
    weight = _class_weights(options.class_weights, class_names, counts, num_images)
    weight = None if weight is None else weight.to(device)
    smoothing, gamma = options.label_smoothing, options.focal_gamma

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, weight=weight, reduction="none", label_smoothing=smoothing
        )

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        log_probabilities = logits.log_softmax(dim=1)
        return F.nll_loss(log_probabilities, targets, weight=weight, reduction="none")

    def focal(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        log_p = logits.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
        losses = -((1 - log_p.exp()) ** gamma) * log_p
        return losses if weight is None else losses * weight[targets]

    def bce_of_two(logits: Tensor, targets: Tensor) -> Tensor:
        # the softmax of two logits is the sigmoid of their difference
        positive = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        difference = logits[:, 1] - logits[:, 0]
        losses = F.binary_cross_entropy_with_logits(difference, positive, reduction="none")
        return losses if weight is None else losses * weight[targets]

    def bce_of_several(logits: Tensor, targets: Tensor) -> Tensor:
        positive = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(
            logits, positive, pos_weight=weight, reduction="none"
        ).mean(dim=1)

    def focal_of_several(logits: Tensor, targets: Tensor) -> Tensor:
        assert gamma is not None
        log_p = torch.where(targets > 0, F.logsigmoid(logits), F.logsigmoid(-logits))
        losses = -((1 - log_p.exp()) ** gamma) * log_p
        if weight is not None:
            losses = torch.where(targets > 0, losses * weight, losses)
        return losses.mean(dim=1)

    if several:
        return {"bce": bce_of_several, "focal": focal_of_several}[options.loss]
    losses = {"cross_entropy": cross_entropy, "nll": nll, "focal": focal, "bce": bce_of_two}
    return losses[options.loss]


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
        return torch.tensor([(num_images - count) / count if count else 1.0 for count in counts])
    for name in asked:
        if name not in class_names:
            near = did_you_mean(name, class_names)
            raise UserError(
                f"train.class_weights: {name!r} is no class of the data{near or '.'} "
                f"There are: {', '.join(class_names)}"
            )
    weights = torch.tensor([asked.get(name, 1.0) for name in class_names])
    if num_images is not None:
        return weights
    per_class = torch.tensor(counts, dtype=torch.float64)
    return (weights * per_class.sum() / (weights * per_class).sum()).float()


def _check(options: LossOptions, num_classes: int, several: bool) -> None:
    if several and options.loss in ("cross_entropy", "nll"):
        raise UserError(
            f"train.loss: {options.loss} takes one label an image, and here an image may have several; "
            "take bce, or focal"
        )
    if not several and options.loss == "bce" and num_classes != 2:
        raise UserError(
            "train.loss: bce is for two classes, or several labels an image, and here are "
            f"{num_classes} classes that exclude each other; take cross_entropy, or focal"
        )
