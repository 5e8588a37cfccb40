"""Shards of images with any number of labels: uint8 ``(n, num_classes)``, 1 for each label."""

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.targets.ranges import check_range

has_masks = False


def column() -> tuple[str, pa.DataType]:
    return "labels", pa.list_(pa.int32())


def metadata(num_classes: int | None) -> dict[str, str]:
    return {"num_classes": json.dumps(num_classes)}


def read(batch: pa.RecordBatch, num_classes: int | None, num_labelled: int | None) -> NDArray[np.uint8]:
    return read_sets(batch["labels"], num_classes, num_labelled)


def read_sets(lists: pa.Array, num_classes: int | None, num_labelled: int | None) -> NDArray[np.uint8]:
    """Return sets of classes, a list of int32 per image, as indicators; see ``StoredTarget.read``."""
    if num_classes is None:
        raise ValueError("the number of classes is missing")
    if num_labelled not in (None, num_classes):
        raise ValueError(f"labels of {num_classes} classes instead of {num_labelled}")
    named = lists.flatten().to_numpy()
    check_range(named, num_classes)
    indicators = np.zeros((len(lists), num_classes), np.uint8)
    images = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    indicators[images, named] = 1
    if indicators.sum(dtype=np.int64) != len(named):
        raise ValueError("an image has a label twice")
    return indicators


def count(labels: NDArray[np.uint8], num_classes: int) -> tuple[list[int], list[int]]:
    return labels.sum(axis=0, dtype=np.int64).tolist(), np.bincount(labels.sum(axis=1)).tolist()


def indicators(labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
    return labels.astype(bool)


def strata(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rarest label of each image, or the number of classes if it has none."""
    frequencies = np.where(labels == 1, labels.sum(axis=0, dtype=np.int64), len(labels) + 1)
    return np.where(labels.any(axis=1), frequencies.argmin(axis=1), labels.shape[1])
