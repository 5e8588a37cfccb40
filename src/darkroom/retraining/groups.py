"""Which prepared images belong together, and the class by which each is stratified."""

from pathlib import Path
from typing import Any

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


def strata_of(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class by which each image is stratified, int64 ``(n,)``.

    Args:
        labels: int64 ``(n,)``, or uint8 ``(n, num_classes)`` of 0 and 1, of which the rarest label of
            each image counts; images without labels get the number of classes.
    """
    if labels.ndim == 1:
        return labels
    frequencies = np.where(labels == 1, labels.sum(axis=0, dtype=np.int64), len(labels) + 1)
    return np.where(labels.any(axis=1), frequencies.argmin(axis=1), labels.shape[1])
