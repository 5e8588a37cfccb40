"""What a kind of target says about preparation: label sets, splits, counts, remarks."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.targets import mask, one_class, several_labels
from darkroom.preparation.unsplit import Ints, Unsplit
from darkroom.targets import Target


class PreparedTarget(Protocol):
    """A module for each kind."""

    balance: str
    """The parameters that balance classes."""

    def lacking(self, names: str, place: str) -> str:
        """Return a sentence on classes without a readable image, and what to do.

        Args:
            names: the classes, as a list in text.
            place: the name of the collection.
        """
        ...

    def stored(self, sets: LabelSets, index: int) -> int | Sequence[int]:
        """Return what a shard stores for one of the sets."""
        ...

    def keys(self, sets: LabelSets) -> NDArray[np.int64]:
        """Return a number for each set, for the digest of the data, ``(num_sets,)``."""
        ...

    def cut(self, images: Unsplit, pool: Ints, sizes: Sequence[int], seed: int) -> Ints:
        """Cut stratified parts of the given sizes from a pool.

        Returns:
            ``(num_in_pool,)``: the part of each image, ``len(sizes)`` for the rest.
        """
        ...

    def fold(self, images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
        """Return which images are in one fold; every image is in exactly one of the folds."""
        ...

    def counts(self, info: DatasetInfo) -> dict[str, dict[str, int]]:
        """Return the entries of metrics.json that only this kind has."""
        ...

    def counts_by_label(self, info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
        """Return the entries of metrics.json about each class that only this kind has."""
        ...

    def average(self, info: DatasetInfo) -> str:
        """Return how many labels an image has, as part of a sentence; empty if it is always one."""
        ...

    def labels_per_image(self, info: DatasetInfo) -> dict[int, list[int]]:
        """Return the number of images in each split with 0, 1, 2, ... labels, for the report."""
        ...


_TARGETS: dict[Target, PreparedTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def prepared_target(name: Target) -> PreparedTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]
