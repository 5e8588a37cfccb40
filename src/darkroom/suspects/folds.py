"""Folds of the prepared train and validation images, in which groups and duplicates stay together."""

import warnings
from pathlib import Path
from typing import Any

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
    classes = labels if labels.ndim == 1 else _rarest(labels)
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


def _rarest(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rarest label of each image, or the number of classes if it has none."""
    frequencies = np.where(labels == 1, labels.sum(axis=0, dtype=np.int64), len(labels) + 1)
    return np.where(labels.any(axis=1), frequencies.argmin(axis=1), labels.shape[1])
