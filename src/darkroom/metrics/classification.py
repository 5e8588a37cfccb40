"""Scores of a model that predicts one class per image."""

from typing import Any

import torch
from torch import Tensor

from darkroom.metrics.confusion import accuracy, confusion_matrix
from darkroom.metrics.counts import averaged_scores, counts_of_classes, scores_by_class
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.ranking import mean_area, ranking_areas


def classification_metrics(
    targets: Tensor, probabilities: Tensor, class_names: list[str]
) -> dict[str, Any]:
    """Return the scores of a classifier on one split.

    Macro averages are over the classes that have images in the split, as scikit-learn's with
    ``labels=numpy.unique(targets)`` and ``zero_division=0``; see ``docs/evaluate.md``. Scores that
    cannot be measured are None: all scores of a class without images, and ROC AUC and average precision
    (one-vs-rest) of a class that has all images.

    Args:
        targets: int64 ``(n,)``.
        probabilities: float ``(n, num_classes)``, rows summing to 1.

    Returns:
        ``accuracy``, ``precision_macro``, ``f1_weighted``, ... in 0..1, rounded to six digits,
        ``num_images``, and ``per_class``: for each class precision, recall, f1, roc_auc,
        average_precision, support (images of the class), predicted (images predicted as the class).
    """
    num_classes = len(class_names)
    confusion = confusion_matrix(targets, probabilities.argmax(dim=1), num_classes)
    counts = counts_of_classes(confusion)
    areas = ranking_areas(targets[:, None] == torch.arange(num_classes), probabilities)
    columns: dict[str, list[Any]] = {
        **scores_by_class(counts),
        **areas,
        "support": counts.support.tolist(),
        "predicted": counts.num_predicted.tolist(),
    }
    return {
        "num_images": len(targets),
        "accuracy": round(accuracy(confusion), DIGITS),
        **averaged_scores(counts),
        **{f"{metric}_macro": mean_area(values) for metric, values in areas.items()},
        "per_class": rows_by_class(class_names, columns),
    }


def rows_by_class(class_names: list[str], columns: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Return a row of all columns for each class."""
    return {
        name: dict(zip(columns, values, strict=True))
        for name, *values in zip(class_names, *columns.values(), strict=True)
    }


def metrics_file(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics with a list of classes, which DVC leaves out of its tables."""
    rows = [{"class": name, **row} for name, row in metrics["per_class"].items()]
    return {**metrics, "per_class": rows}
