"""Scores of masks, from exact counts of pixels."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from darkroom.metrics.classification import rows_by_class
from darkroom.metrics.confusion import accuracy
from darkroom.metrics.counts import Counts, averaged_scores, counts_of_classes, scores_by_class
from darkroom.metrics.digits import DIGITS
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


def ious(counts: Counts) -> Tensor:
    """Return the intersection over union of each class (the Jaccard index).

    Returns:
        float64 ``(num_classes,)``, 0..1; NaN for a class without pixels, because it cannot be measured.
    """
    union = (counts.support + counts.false_positives).double()
    return torch.where(counts.support > 0, counts.true_positives / union, torch.nan)


def mean_over_images(counts: PixelCounts) -> dict[str, float | None]:
    """Return ``iou_macro`` and ``f1_macro`` as means over images.

    The score of an image is the mean over the classes that it shows. So each image counts the same,
    however many pixels it has; in the scores over all pixels, large objects outweigh small ones.

    Returns:
        0..1, rounded to six digits; None if every pixel is void.
    """
    is_shown = counts.support > 0
    num_shown = is_shown.sum(dim=1)
    either = (counts.support + counts.predicted).double()
    scores = {"iou": counts.hits / (either - counts.hits), "f1": 2 * counts.hits / either}
    means: dict[str, float | None] = {}
    for metric, values in scores.items():
        by_image = torch.where(is_shown, values, 0).sum(dim=1) / num_shown
        by_image = by_image[num_shown > 0]
        means[f"{metric}_macro"] = round(float(by_image.mean()), DIGITS) if len(by_image) else None
    return means


def pixel_metrics(counts: PixelCounts, class_names: list[str]) -> dict[str, Any]:
    """Return the scores of a model that predicts masks, on one split.

    Names and rules are those of ``classification_metrics``, with pixels for images: macro averages are
    over the classes that have pixels, the precision of a class with pixels that is never predicted is 0,
    and scores that cannot be measured are None. F1 of pixels is also called Dice.

    Returns:
        ``accuracy`` (fraction of right pixels), ``iou_macro``, ``precision_macro``, ``f1_weighted``, ...
        in 0..1, rounded to six digits, ``num_images``, ``num_pixels`` (without void ones),
        ``over_images`` (see ``mean_over_images``), and ``per_class``: for each class iou, precision,
        recall, f1, support (pixels of the class), predicted (pixels predicted as the class), images
        (images that show it).
    """
    of_classes = counts_of_classes(counts.confusion)
    iou = ious(of_classes)
    num_pixels = int(counts.confusion.sum())
    columns: dict[str, list[Any]] = {
        "iou": [None if value != value else round(value, DIGITS) for value in iou.tolist()],
        **scores_by_class(of_classes),
        "support": of_classes.support.tolist(),
        "predicted": of_classes.num_predicted.tolist(),
        "images": (counts.support > 0).sum(dim=0).tolist(),
    }
    return {
        "num_images": len(counts.support),
        "num_pixels": num_pixels,
        "accuracy": round(accuracy(counts.confusion), DIGITS) if num_pixels else None,
        "iou_macro": round(float(iou.nanmean()), DIGITS) if num_pixels else None,
        **averaged_scores(of_classes),
        "over_images": mean_over_images(counts),
        "per_class": rows_by_class(class_names, columns),
    }
