"""Precision-recall and ROC curves of torchmetrics, interpolated on a common grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

Curve = Callable[[Tensor, Tensor], NDArray[np.float64]]
"""Returns the values of a curve on ``GRID`` for scores and 0/1 targets."""

GRID = np.linspace(0.0, 1.0, 101)
TOLERANCE = 1e-6
"""torchmetrics computes rates in float32, in which 0.7 is 0.69999999."""


@dataclass(frozen=True)
class Curves:
    """One curve per class over a common grid.

    ``values`` maps class names to float64 ``(len(grid),)``. Classes that all images or no images have
    are omitted.
    """

    grid: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]

    @property
    def macro(self) -> NDArray[np.float64]:
        """The mean over classes; NaN if there are no curves."""
        if not self.values:
            return np.full(len(self.grid), np.nan)
        return np.mean(list(self.values.values()), axis=0)


def precision_recall_curves(targets: Tensor, probabilities: Tensor, class_names: list[str]) -> Curves:
    """Return the interpolated precision-recall curve of each class against the rest.

    Interpolated precision at a recall is the highest at that recall or above it (Manning et al.,
    "Introduction to Information Retrieval", 2008, section 8.4).

    Args:
        targets: ``(n, num_classes)`` of 0 and 1.
        probabilities: float ``(n, num_classes)``.
    """

    def curve(scores: Tensor, positive: Tensor) -> NDArray[np.float64]:
        precision, recall, _ = binary_precision_recall_curve(scores, positive)
        precision, recall = precision.flip(0).double().numpy(), recall.flip(0).double().numpy()
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        return highest[np.searchsorted(recall, GRID - TOLERANCE)]

    return _each_class(curve, targets, probabilities, class_names)


def roc_curves(targets: Tensor, probabilities: Tensor, class_names: list[str]) -> Curves:
    """Return the ROC curve of each class against the rest.

    Args:
        targets: ``(n, num_classes)`` of 0 and 1.
        probabilities: float ``(n, num_classes)``.
    """

    def curve(scores: Tensor, positive: Tensor) -> NDArray[np.float64]:
        false_rate, true_rate, _ = binary_roc(scores, positive)
        # the highest true positive rate up to this false positive rate
        last = np.searchsorted(false_rate.double().numpy(), GRID + TOLERANCE, side="right") - 1
        return true_rate.double().numpy()[last]

    return _each_class(curve, targets, probabilities, class_names)


def _each_class(curve: Curve, targets: Tensor, probabilities: Tensor, class_names: list[str]) -> Curves:
    values = {}
    for index, name in enumerate(class_names):
        positive = targets[:, index].to(torch.int64)
        if 0 < int(positive.sum()) < len(targets):
            values[name] = curve(probabilities[:, index], positive)
    return Curves(GRID, values)
