"""Precision, recall, F1 and friends, by torchmetrics."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

_AVERAGED = {
    "precision": multiclass_precision,
    "recall": multiclass_recall,
    "f1": multiclass_f1_score,
}
_RANKED = {"roc_auc": multiclass_auroc, "average_precision": multiclass_average_precision}


def classification_metrics(
    targets: Tensor, probabilities: Tensor, class_names: list[str]
) -> dict[str, Any]:
    """Measures a classifier on one split.

    Classes that are neither in the targets nor predicted are left out of macro averages, as in
    scikit-learn. ROC AUC (one against the rest) and average precision need images of the class
    and images of others; where a class lacks them its value is ``None``, and it is left out of
    their macro average. Values are rounded to six digits.

    Args:
        targets: int64 ``(n,)``.
        probabilities: float ``(n, num_classes)``, rows summing to 1.

    Returns:
        ``accuracy``, ``precision_macro``, ``f1_weighted``, ... in 0..1, ``num_images``, and
        ``per_class``: for each class precision, recall, f1, roc_auc, average_precision, support.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    # there torchmetrics counts by comparing n x num_classes**2 numbers; whole numbers need no care
    torch.use_deterministic_algorithms(False)
    try:
        return _measure(targets, probabilities, class_names)
    finally:
        torch.use_deterministic_algorithms(deterministic)


def metrics_file(metrics: dict[str, Any]) -> dict[str, Any]:
    """Puts the classes into a list, where DVC's tables of metrics leave them out."""
    rows = [{"class": name, **row} for name, row in metrics["per_class"].items()]
    return {**metrics, "per_class": rows}


def _measure(targets: Tensor, probabilities: Tensor, class_names: list[str]) -> dict[str, Any]:
    num_classes = len(class_names)
    metrics: dict[str, Any] = {
        "num_images": len(targets),
        "accuracy": _number(multiclass_accuracy(probabilities, targets, num_classes, average="micro")),
    }
    per_class: dict[str, dict[str, Any]] = {name: {} for name in class_names}
    for metric, function in _AVERAGED.items():
        for average in ("macro", "weighted", "micro"):
            value = function(probabilities, targets, num_classes, average=average)
            metrics[f"{metric}_{average}"] = _number(value)
        values = function(probabilities, targets, num_classes, average=None)
        for name, value in zip(class_names, values.tolist(), strict=True):
            per_class[name][metric] = _number(value)

    support = torch.bincount(targets, minlength=num_classes)
    rankable = (support > 0) & (support < len(targets))
    for metric, function in _RANKED.items():
        values = function(probabilities, targets, num_classes, average=None)
        for name, value, defined in zip(class_names, values.tolist(), rankable.tolist(), strict=True):
            per_class[name][metric] = _number(value) if defined else None
        metrics[f"{metric}_macro"] = _number(values[rankable].mean()) if rankable.any() else None
    for name, count in zip(class_names, support.tolist(), strict=True):
        per_class[name]["support"] = count
    return {**metrics, "per_class": per_class}


def _number(value: Tensor | float) -> float:
    """Rounds to six digits: torchmetrics divides in float32, whose seventh is noise."""
    return round(float(value), 6)
