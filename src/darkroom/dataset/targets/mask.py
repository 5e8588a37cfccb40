"""Shards of images with masks: bool ``(n, num_classes)``, the classes that each mask shows.

The masks themselves are pixels, and reach the device as images do: ``Shards.masks``.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.targets import several_labels

has_masks = True


def column() -> tuple[str, pa.DataType]:
    return "shown", pa.list_(pa.int32())


def metadata(num_classes: int | None) -> dict[str, str]:
    return several_labels.metadata(num_classes)


def read(batch: pa.RecordBatch, num_classes: int | None, num_labelled: int | None) -> NDArray[np.bool_]:
    return several_labels.read_sets(batch["shown"], num_classes, num_labelled).astype(bool)


def count(labels: NDArray[np.bool_], num_classes: int) -> tuple[list[int], list[int]]:
    return labels.sum(axis=0, dtype=np.int64).tolist(), np.bincount(labels.sum(axis=1)).tolist()


def indicators(labels: NDArray[np.bool_], num_classes: int) -> NDArray[np.bool_]:
    return labels


def strata(labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rarest class that each mask shows."""
    return several_labels.strata(labels.astype(np.uint8))
