"""What a kind of target says about the shards: a column, and how it is read."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.targets import mask, one_class, several_labels
from darkroom.errors import UserError
from darkroom.targets import WORDS, Target


class StoredTarget(Protocol):
    """A module for each kind. Labels are those of ``Shards.labels``."""

    has_masks: bool
    """Whether the shards have a column ``mask``, which is pixels as ``image`` is."""

    def column(self) -> tuple[str, pa.DataType]:
        """Return the name and the type of the column."""
        ...

    def metadata(self, num_classes: int | None) -> Mapping[str, str]:
        """Return what the schema says about the column."""
        ...

    def read(
        self, batch: pa.RecordBatch, num_classes: int | None, num_labelled: int | None
    ) -> NDArray[Any]:
        """Return the labels of a record batch.

        Args:
            num_classes: from the schema.
            num_labelled: number of classes to check labels against; None: not checked.

        Raises:
            ValueError: labels are out of range, or contradict each other.
        """
        ...

    def count(self, labels: NDArray[Any], num_classes: int) -> tuple[list[int], list[int]]:
        """Return the number of images of each class, and with 0, 1, 2, ... labels."""
        ...

    def indicators(self, labels: NDArray[Any], num_classes: int) -> NDArray[np.bool_]:
        """Return which classes each image has, ``(n, num_classes)``."""
        ...

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the class by which each image is stratified, ``(n,)``."""
        ...


_TARGETS: dict[Target, StoredTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def stored_target(name: Target) -> StoredTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]


def check_labelled(name: Target, command: str, source: str) -> None:
    """Refuse images with masks, for commands that need labels of images.

    Args:
        command: of ``darkroom``, for the message.
        source: what has the target, for the message.

    Raises:
        UserError: images have masks.
    """
    if stored_target(name).has_masks:
        raise UserError(
            f"darkroom {command} does not support masks: it needs labels of images, and {source} has "
            f"{WORDS[name].per_image}"
        )
