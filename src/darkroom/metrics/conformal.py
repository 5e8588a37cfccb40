"""Sets of classes that contain the true one with a chosen probability: split-conformal prediction.

A class belongs to the set if its probability is at least the class's threshold, which is a quantile of
the true class's probability on validation images (the score LAC of Sadinle et al., "Least Ambiguous
Set-Valued Classifiers with Bounded Error Levels", 2019). With one quantile per class, the coverage holds
within each class (Mondrian: Vovk, "Conditional validity of inductive conformal predictors", 2012).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.selective import rounded_down

Array = NDArray[np.float64]


class SetThresholds(NamedTuple):
    """The lowest probability at which each class belongs to the set of an image."""

    thresholds: Array
    """0..1, ``(num_classes,)``."""
    is_marginal: NDArray[np.bool_]
    """Whether a class has too few images for a quantile of its own, and takes that of all images."""


def set_thresholds(
    labels: NDArray[np.int64], own: Array, num_classes: int, coverage: float
) -> SetThresholds:
    """Return thresholds of sets that contain the true class with a probability of ``coverage`` or more.

    Args:
        labels: true classes of validation images, ``(n,)``.
        own: probabilities of the true classes, ``(n,)``.
        coverage: 0..1, exclusive.
    """
    of_all = _quantile(own, coverage)
    by_class = np.array([_quantile(own[labels == label], coverage) for label in range(num_classes)])
    is_marginal = np.isnan(by_class)
    # if even all images are too few, every class belongs to every set
    thresholds = np.where(is_marginal, np.nan_to_num(of_all, nan=0.0), by_class)
    return SetThresholds(rounded_down(thresholds), is_marginal)


def prediction_sets(probabilities: Array, thresholds: Array) -> NDArray[np.bool_]:
    """Return whether each class belongs to the set of each image, ``(n, num_classes)``.

    A set is empty if no class is as probable as it is for the other images of that class.
    """
    return probabilities >= thresholds


def _quantile(own: Array, coverage: float) -> float:
    """Return the probability that ``coverage`` of ``n + 1`` images reach; NaN if n is too small."""
    # 0.9 of 10 images are 9, also where the product is 9.000000000000002
    num_reaching = int(np.ceil(round((len(own) + 1) * coverage, 9)))
    if num_reaching > len(own):
        return float("nan")
    return float(np.sort(own)[len(own) - num_reaching])
