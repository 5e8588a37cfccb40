"""Shards of images with one class each: labels are int64 ``(n,)``."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.targets.ranges import check_range

has_masks = False


def column() -> tuple[str, pa.DataType]:
    return "label", pa.int32()


def metadata(num_classes: int | None) -> dict[str, str]:
    return {}


def read(batch: pa.RecordBatch, num_classes: int | None, num_labelled: int | None) -> NDArray[np.int64]:
    labels = np.from_dlpack(batch["label"]).astype(np.int64)
    check_range(labels, num_labelled)
    return labels


def count(labels: NDArray[np.int64], num_classes: int) -> tuple[list[int], list[int]]:
    return np.bincount(labels, minlength=num_classes).tolist(), [0, len(labels)]


def indicators(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
    return labels[:, None] == np.arange(num_classes)


def strata(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return labels
