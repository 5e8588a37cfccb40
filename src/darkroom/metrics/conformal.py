"""Sets of classes that contain the true one with a chosen probability: split-conformal prediction.

A class belongs to the set if its probability is at least the class's threshold, which is a quantile of
the true class's probability on validation images (the score LAC of Sadinle et al., "Least Ambiguous
Set-Valued Classifiers with Bounded Error Levels", 2019). With one quantile per class, the coverage holds
within each class (Mondrian: Vovk, "Conditional validity of inductive conformal predictors", 2012).
Quantiles are interpolated between two images, so that classes with few images are not covered more often
than was asked (Beran and Hall, "Interpolated Nonparametric Prediction Intervals and Confidence
Intervals", 1993); ``docs/decisions/0029-calibration.md`` says what this promises.

If an image may have several labels, the images with a label take the place of the images of a class. A
label with too few of them takes a threshold at which an image misses a bounded share of its labels on
average (Angelopoulos et al., "Conformal Risk Control", 2022).
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
    """Return thresholds of sets that contain the true class with a probability of ``coverage``.

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


def label_set_thresholds(
    targets: NDArray[np.bool_], probabilities: Array, coverage: float
) -> SetThresholds:
    """Return thresholds of sets that contain each true label with a probability of ``coverage``.

    Args:
        targets: true labels of validation images, ``(n, num_labels)``.
        probabilities: ``(n, num_labels)``.
        coverage: 0..1, exclusive.
    """
    of_each = zip(targets.T, probabilities.T, strict=True)
    by_label = np.array([_quantile(own[has_it], coverage) for has_it, own in of_each])
    is_marginal = np.isnan(by_label)
    if is_marginal.any():
        by_label[is_marginal] = controlled_threshold(targets, probabilities, coverage)
    return SetThresholds(rounded_down(by_label), is_marginal)


def controlled_threshold(targets: NDArray[np.bool_], probabilities: Array, coverage: float) -> float:
    """Return the highest threshold at which images miss at most ``1 - coverage`` of their labels.

    That is the expected share of an image's true labels whose probability is below the threshold, of
    images with a label: (missed shares + 1) / (n + 1) must not exceed it. 0 if the images are too few.

    Args:
        targets, probabilities: as for ``label_set_thresholds``.
    """
    num_labels = targets.sum(axis=1)
    num_images = int((num_labels > 0).sum())
    rows, labels = np.nonzero(targets)
    own = probabilities[rows, labels]
    values, position = np.unique(own, return_inverse=True)
    lost = np.bincount(position, 1 / num_labels[rows], len(values))
    missed = np.cumsum(lost) - lost  # by labels below each value
    is_allowed = np.round((missed + 1) / (num_images + 1), 9) <= round(1 - coverage, 9)
    return float(values[is_allowed][-1]) if is_allowed.any() else 0.0


def prediction_sets(probabilities: Array, thresholds: Array) -> NDArray[np.bool_]:
    """Return whether each class belongs to the set of each image, ``(n, num_classes)``.

    A set is empty if no class is as probable as it is for the other images of that class.
    """
    return probabilities >= thresholds


def _quantile(own: Array, coverage: float) -> float:
    """Return the probability that ``coverage`` of ``n + 1`` images reach; NaN if n is too small.

    It is interpolated between the images of rank ``floor((1 - coverage) (n + 1))`` and the next one.
    """
    # 0.9 of 10 images are 9, also where the product is 9.000000000000002
    if round((len(own) + 1) * coverage, 9) > len(own):
        return float("nan")
    return float(np.quantile(own, 1 - coverage, method="weibull"))
