"""Folds of the prepared train and validation images, in which groups and duplicates stay together."""

import warnings

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError


def assign_folds(
    classes: NDArray[np.int64], groups: NDArray[np.int64], num_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each image, int64 ``(n,)``, with scikit-learn's stratified folds.

    Args:
        classes: by which folds are stratified, int64 ``(n,)``; see ``StoredTarget.strata``.
        groups: int64 ``(n,)``; images with the same number stay in one fold.

    Raises:
        UserError: there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise UserError(
            f"{num_folds} folds: train and val consist of only {num_groups} groups; use fewer folds"
        )
    kind = StratifiedKFold if num_groups == len(groups) else StratifiedGroupKFold
    folds = np.empty(len(classes), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        parts = kind(num_folds, shuffle=True, random_state=seed % 2**32)
        for fold, (_, rows) in enumerate(parts.split(classes, classes, groups)):
            folds[rows] = fold
    return folds
