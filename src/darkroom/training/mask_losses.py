"""Losses of masks. Each maps the logits and targets of pixels to one loss per image.

A loss per image, and not one over all pixels of a batch, does not depend on how images are batched. The
losses of single pixels are those of ``losses.py``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from darkroom.training.losses import LossFunction
from darkroom.void import VOID

MaskLoss = LossFunction
"""Takes logits, float ``(n, num_classes, h, w)``, and targets, uint8 ``(n, h, w)``, classes or ``VOID``;
returns float ``(n,)``. Pixels that are void have no loss; an image of them has a loss of 0."""


def mean_over_pixels(loss: LossFunction) -> MaskLoss:
    """Return the mean of a loss of images with one class, applied to each pixel that is not void."""

    def of_masks(logits: Tensor, targets: Tensor) -> Tensor:
        num_images, num_classes = logits.shape[:2]
        is_valid = targets != VOID
        # rows of logits instead of maps, because nll_loss2d has no deterministic gradient on CUDA
        rows = logits.permute(0, 2, 3, 1).reshape(-1, num_classes)
        losses = loss(rows, torch.where(is_valid, targets.long(), 0).flatten()).view(num_images, -1)
        is_valid = is_valid.flatten(1)
        return (losses * is_valid).sum(dim=1) / is_valid.sum(dim=1).clamp(min=1)

    return of_masks


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the soft Dice coefficient of each image, averaged over the classes it shows.

    For a class it is ``1 - 2 * sum(p * t) / (sum(p) + sum(t))``, with the probability p and the target t
    (0 or 1) of each pixel: Milletari et al., "V-Net" (2016), without the squares, as in Sudre et al.,
    "Generalised Dice overlap" (2017). Classes that an image does not show have no coefficient; pixels
    that are wrongly predicted as one of them lower the probability of the true class.
    """
    probabilities = logits.softmax(dim=1).flatten(2)
    targets = targets.flatten(1)
    is_valid = (targets != VOID)[:, None]
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None]
    is_class = targets[:, None] == classes  # (n, num_classes, pixels)
    overlap = (probabilities * is_class).sum(dim=2)
    num_pixels = is_class.sum(dim=2)
    total = (probabilities * is_valid).sum(dim=2) + num_pixels
    is_shown = num_pixels > 0
    losses = torch.where(is_shown, 1 - 2 * overlap / total.clamp(min=1), 0)
    return losses.sum(dim=1) / is_shown.sum(dim=1).clamp(min=1)


def summed(losses: Sequence[MaskLoss]) -> MaskLoss:
    """Return the sum of several losses."""

    def total(logits: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([loss(logits, targets) for loss in losses]).sum(dim=0)

    return total
