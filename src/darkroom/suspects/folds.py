"""Folds of the prepared train and validation images, in which groups and duplicates stay together."""

import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.preparation.duplicates import group_of


def load_groups(manifest: Path, paths: list[str]) -> NDArray[np.int64]:
    """Return the group of each image: those of ``prepare`` joined with its duplicates.

    Args:
        manifest: ``manifest.parquet``.

    Returns:
        int64 ``(n,)``: for each image the first one of its group.

    Raises:
        UserError: the manifest does not list an image.
    """
    table = pq.read_table(manifest, columns=["path", "group", "duplicate_of"]).to_pydict()
    index = {path: number for number, path in enumerate(paths)}
    first_of: dict[str, int] = {}
    pairs, num_found = [], 0
    for path, group, original in zip(*table.values(), strict=True):
        if (image := index.get(path)) is None:
            continue
        num_found += 1
        if group is not None:
            pairs.append((first_of.setdefault(group, image), image))
        if original in index:
            pairs.append((index[original], image))
    if num_found < len(paths):
        raise UserError(f"{manifest}: does not list all prepared images; run `dvc repro prepare`")
    return group_of(len(paths), np.array(pairs, np.int64).reshape(-1, 2))


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
