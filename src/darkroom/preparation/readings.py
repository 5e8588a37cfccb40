"""What is known of inputs after they were read, whatever their kind."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage
from darkroom.inputs import Input


class Content(Protocol):
    """What shards store of inputs."""

    @property
    def input(self) -> Input: ...

    @property
    def storage(self) -> Storage: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels; of rows, 1, 1 and the number of values."""
        ...

    def stored(self, index: int) -> Any:
        """Return one input as stored, in any contiguous buffer."""
        ...

    def facts_of(self, train: Shards) -> Mapping[str, Any]:
        """Return the fields of ``DatasetInfo`` that describe the content and normalise it."""
        ...


class ReadMasks(Protocol):
    """The masks of images, in the order of the collection."""

    def labels(self) -> pa.Array:
        """Return the sorted labels of the images, which name the classes that the masks show."""
        ...

    def stored(self, index: int) -> pa.Buffer:
        """Return one mask as stored, without a copy."""
        ...

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return one mask: uint8 ``(height, width)``."""
        ...


class Readings(Protocol):
    """The result of reading inputs, in the order of the collection."""

    @property
    def masks(self) -> ReadMasks | None:
        """The masks that were read with the inputs; None: there are none."""
        ...

    def __len__(self) -> int: ...

    def facts(self, indices: NDArray[np.int64]) -> pa.Table:
        """Return the columns ``segments.FACTS`` of some inputs."""
        ...

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pictures for a report: uint8 ``(n, height, width, channels)``."""
        ...

    def content(self, is_train: NDArray[np.bool_]) -> Content:
        """Return what shards store.

        Args:
            is_train: whether each input is in the train split, from which statistics are taken.
        """
        ...

    def remove_other_segments(self) -> None:
        """Remove what a cache holds of other inputs."""
        ...
