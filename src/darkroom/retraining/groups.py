"""Which prepared images belong together."""

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
