"""Some images of several splits, in place, as if they were a split of their own."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.pixels import Masks, Shape
from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView


class Subset(Shards):
    """The images at some positions of splits that are read one after the other.

    Args:
        parts: splits of the same prepared data, with the same view.
        rows: int64 ``(n,)``, positions in all parts together.
    """

    def __init__(self, parts: Sequence[Shards], rows: NDArray[np.int64]) -> None:
        self._parts = tuple(parts)
        self._rows = rows
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape, self.dtype, self.storage = parts[0].shape, parts[0].dtype, parts[0].storage
        self.target, self.input = parts[0].target, parts[0].input
        self._masked = [masks for part in parts if (masks := part.masks) is not None]
        self.labels = np.concatenate([part.labels for part in parts])[rows]
        weights = [part.weights for part in parts if part.weights is not None]
        self.weights = np.concatenate(weights)[rows] if weights else None

    def viewed(self, view: EvaluationView | None) -> "Subset":
        """Return the same images with another view; see ``Shards.viewed``."""
        parts = [part.viewed(view) for part in self._parts]
        is_same = all(a is b for a, b in zip(parts, self._parts, strict=True))
        return self if is_same else Subset(parts, self._rows)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the parts, and the positions."""
        total = hashlib.sha256(" ".join(part.digest for part in self._parts).encode())
        total.update(self._rows.astype("<i8").tobytes())
        return total.hexdigest()

    @property
    def paths(self) -> list[str]:
        """The path of the source file of each image, relative to the collection."""
        paths = [path for part in self._parts for path in part.paths]
        return [paths[row] for row in self._rows.tolist()]

    def __reduce__(self) -> tuple[type["Subset"], tuple[tuple[Shards, ...], NDArray[np.int64]]]:  # type: ignore[override]
        return Subset, (self._parts, self._rows)

    def gather(self, indices: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy the images at ``indices``; see ``Shards.gather``."""
        return self._gather_parts(self._parts, self.shape, self.dtype, indices, out)

    def gather_masks(
        self, indices: NDArray[np.int64], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Copy the masks at ``indices``; see ``Shards.gather_masks``."""
        return self._gather_parts(self._masked, (*self.shape[:2], 1), np.uint8, indices, out)

    def _gather_parts(
        self,
        parts: Sequence[Shards | Masks],
        shape: Shape,
        dtype: type[np.generic],
        indices: NDArray[np.int64],
        out: NDArray[Any] | None,
    ) -> NDArray[Any]:
        images = np.empty((len(indices), *shape), dtype) if out is None else out
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{len(self)} images; asked for {indices.min()} to {indices.max()}")
        rows = self._rows[indices]
        owner = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(parts):
            here = np.flatnonzero(owner == number)
            if len(here):
                images[here] = part.gather(rows[here] - (self._ends[number] - len(part)), None)
        return images
