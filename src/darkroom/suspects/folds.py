"""Folds of the prepared train and validation images, in which groups and duplicates stay together."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.retraining.groups import strata_of


def assign_folds(
    labels: NDArray[Any], groups: NDArray[np.int64], num_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each image, int64 ``(n,)``, with scikit-learn's stratified folds.

    Args:
        labels: int64 ``(n,)``, or uint8 ``(n, num_classes)`` of 0 and 1, which are stratified by the
            rarest label of each image.
        groups: int64 ``(n,)``; images with the same number stay in one fold.

    Raises:
        UserError: there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise UserError(
            f"--folds {num_folds}: the train and val images form only {num_groups} groups; use fewer"
        )
    classes = strata_of(labels)
    kind = StratifiedKFold if num_groups == len(groups) else StratifiedGroupKFold
    folds = np.empty(len(classes), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        parts = kind(num_folds, shuffle=True, random_state=seed % 2**32)
        for fold, (_, rows) in enumerate(parts.split(classes, classes, groups)):
            folds[rows] = fold
    return folds


def can_be_judged(labels: NDArray[Any], folds: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
    """Return which images have a label that also occurs in other folds, bool ``(n,)``.

    Images with several labels can always be judged.
    """
    if labels.ndim == 2:
        return np.ones(len(labels), bool)
    counts = np.zeros((folds.max() + 1, num_classes), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return (counts.sum(axis=0) - counts[folds])[np.arange(len(labels)), labels] > 0
