"""Scores of masks, from exact counts of pixels."""

from typing import Any

import torch
from torch import Tensor

from darkroom.metrics.classification import rows_by_class
from darkroom.metrics.confusion import accuracy
from darkroom.metrics.counts import Counts, averaged_scores, counts_of_classes, scores_by_class
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.pixels import PixelCounts


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
