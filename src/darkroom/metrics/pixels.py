"""Counts of the pixels of masks, which are exact in any order."""

from typing import NamedTuple

import torch
from torch import Tensor

from darkroom.void import VOID


class PixelCounts(NamedTuple):
    """The counted pixels of masks, int64 on the CPU; those that are void are excluded."""

    confusion: Tensor
    """``(num_classes, num_classes)``: rows are true, columns predicted classes, over all images."""
    support: Tensor
    """The pixels of each class in each image, ``(n, num_classes)``, like the next two."""
    hits: Tensor
    """The pixels that are predicted as their class."""
    predicted: Tensor
    """The pixels that are predicted as the class; those that are void do not count."""


class PixelCounter:
    """Counts the pixels of one batch after another."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self._by_image: list[Tensor] = []

    def add(self, targets: Tensor, preds: Tensor) -> None:
        """Count a batch.

        Args:
            targets: any integer type, ``(n, h, w)``, true classes or ``VOID``.
            preds: any integer type, ``(n, h, w)``, predicted classes.
        """
        confusions = confusion_matrices(targets, preds, self.num_classes).cpu()
        self._confusion += confusions.sum(dim=0)
        parts = (confusions.sum(dim=2), confusions.diagonal(dim1=1, dim2=2), confusions.sum(dim=1))
        self._by_image.append(torch.stack(parts))

    def result(self) -> PixelCounts:
        """Return the counts of all batches."""
        empty = torch.zeros(3, 0, self.num_classes, dtype=torch.int64)
        return PixelCounts(self._confusion.clone(), *torch.cat([empty, *self._by_image], dim=1))


def confusion_matrices(targets: Tensor, preds: Tensor, num_classes: int) -> Tensor:
    """Return how many pixels of each class were predicted as each class, in each image.

    Args:
        targets: any integer type, ``(n, h, w)``, true classes or ``VOID``.
        preds: any integer type, ``(n, h, w)``, predicted classes.

    Returns:
        int64 ``(n, num_classes, num_classes)``: rows are true, columns predicted classes.
    """
    num_images, cells = len(targets), num_classes**2
    targets, preds = targets.flatten(1).long(), preds.flatten(1).long()
    # void pixels go to a cell of their own, because selecting the others is slower
    cell = torch.where(targets == VOID, cells, targets * num_classes + preds)
    cell += torch.arange(num_images, device=cell.device)[:, None] * (cells + 1)
    counts = torch.zeros(num_images * (cells + 1), dtype=torch.int64, device=cell.device)
    counts.scatter_add_(0, cell.flatten(), torch.ones_like(cell).flatten())
    return counts.view(num_images, -1)[:, :cells].reshape(num_images, num_classes, num_classes)
