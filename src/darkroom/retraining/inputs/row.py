"""Trainings on some rows of a table: medians, means, and categories are those of these rows alone."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.dataset.views import EvaluationView
from darkroom.inputs import Encoding
from darkroom.tabular.refitting import recode, refit


class RecodedRows(Subset):
    """Some rows of splits, as another encoding encodes them.

    Args:
        parts, rows: as for ``Subset``.
        old: the encoding of the parts.
        new: as ``refit`` returns it.
    """

    def __init__(
        self, parts: Sequence[Shards], rows: NDArray[np.int64], old: Encoding, new: Encoding
    ) -> None:
        super().__init__(parts, rows)
        self._old, self._new = old, new
        self.shape = (1, 1, new.size)

    def viewed(self, view: EvaluationView | None) -> "RecodedRows":
        """Return the same rows; there is only one view of rows."""
        return self

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{super().digest} {self._new}".encode()).hexdigest()

    def __reduce__(self) -> tuple[type["RecodedRows"], tuple[Any, ...]]:
        return RecodedRows, (self._parts, self._rows, self._old, self._new)

    def gather(self, indices: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy the rows at ``indices``: float64 ``(n, 1, 1, num_values)``; see ``Shards.gather``."""
        stored = self._gather_parts(self._parts, (1, 1, self._old.size), self.dtype, indices, None)
        found = recode(stored.reshape(len(indices), -1), self._old, self._new)
        rows = np.empty((len(indices), *self.shape), self.dtype) if out is None else out
        rows[...] = found.reshape(rows.shape)
        return rows


def fitted(info: DatasetInfo, shards: Shards, train_rows: NDArray[np.int64]) -> DatasetInfo:
    assert info.encoding is not None
    encoding = refit(info.encoding, shards.gather(train_rows).reshape(len(train_rows), -1))
    return info.model_copy(update={"encoding": encoding, "channels": encoding.size})


def opened(
    parts: list[Shards], rows: NDArray[np.int64], prepared: DatasetInfo, info: DatasetInfo
) -> Shards:
    assert prepared.encoding is not None
    assert info.encoding is not None
    return RecodedRows(parts, rows, prepared.encoding, info.encoding)
