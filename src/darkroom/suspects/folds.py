"""Folds of the prepared train and validation images, in which groups and duplicates stay together."""

import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.metrics.groups import groups_of


def load_groups(manifest: Path, paths: list[str]) -> NDArray[np.int64]:
    """Return the group of each image: those of ``prepare`` joined with its duplicates.

    Args:
        manifest: ``manifest.parquet``.

    Returns:
        int64 ``(n,)``, 0 to ``num_groups - 1``.

    Raises:
        UserError: the manifest does not list an image.
    """
    table = pq.read_table(manifest, columns=["path", "group", "duplicate_of"])
    if not set(paths).issubset(table["path"].to_pylist()):
        raise UserError(f"{manifest}: does not list all prepared images; run `dvc repro prepare`")
    groups = groups_of(table, paths)
    return np.arange(len(paths)) if groups is None else groups


def assign_folds(
    classes: NDArray[np.int64], groups: NDArray[np.int64], num_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each image, int64 ``(n,)``, with scikit-learn's stratified folds.

    Args:
        classes: by which folds are stratified, int64 ``(n,)``; see ``SuspectsTarget.classes``.
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
    kind = StratifiedKFold if num_groups == len(groups) else StratifiedGroupKFold
    folds = np.empty(len(classes), np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        parts = kind(num_folds, shuffle=True, random_state=seed % 2**32)
        for fold, (_, rows) in enumerate(parts.split(classes, classes, groups)):
            folds[rows] = fold
    return folds
