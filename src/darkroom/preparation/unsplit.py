"""What is split, and by which rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from darkroom.collection.entries import SPLITS
from darkroom.errors import UserError
from darkroom.inputs import INPUT_WORDS, InputWords
from darkroom.targets import Target

TRAIN, VAL, TEST = range(len(SPLITS))
NOT_GIVEN = LEFT_OUT = -1

Ints = NDArray[np.int64]
Splits = NDArray[np.int8]
"""``(num_images,)``: index into ``SPLITS``, or -1."""


@dataclass(frozen=True)
class SplitRule:
    """How to split; the fields are parameters of the section ``prepare``."""

    method: Literal["stratified", "stable", "given"]
    val_fraction: float
    test_fraction: float
    fold: tuple[int, int] | None
    """(2, 5): the second of five folds is the test split, and ``test_fraction`` is ignored."""
    seed: int


@dataclass(frozen=True)
class Unsplit:
    """The images to split, sorted by path; arrays have the shape ``(num_images,)``."""

    class_names: Sequence[str]
    """Sorted."""
    labels: Ints
    """Index into the rows of ``members``."""
    groups: Ints
    """Any numbers; images with the same number are a group. Most images are alone in theirs."""
    given: Splits
    """The split given by the collection, or ``NOT_GIVEN``."""
    keys: NDArray[np.uint64]
    """A hash of the name of the image's group, or of its pixels. Only for ``stable``."""
    members: csr_array
    """The classes of each label set, as in ``LabelSets.members``. An image counts in each of them."""
    target: Target = "one_class"
    words: InputWords = INPUT_WORDS["image"]
    """For messages."""

    def memberships(self) -> tuple[Ints, Ints]:
        """Return pairs of an image and one of its classes: two arrays, int64 ``(num_pairs,)``."""
        of_images = self.members[self.labels]
        return np.repeat(
            np.arange(len(self.labels)), np.diff(of_images.indptr)
        ), of_images.indices.astype(np.int64)


class SplitError(UserError):
    """A mistake in certain images. The message has their number; the caller adds their names."""

    def __init__(self, message: str, images: Ints) -> None:
        """Take the indices of the images at fault: int64 ``(num_at_fault,)``."""
        super().__init__(message)
        self.images = images


def has_groups(groups: Ints) -> bool:
    """Return whether a group has several images."""
    return bool(np.bincount(groups, minlength=1).max() > 1)


def last_of_group(groups: Ints, splits: Splits) -> Splits:
    """Return for each image the split of its group that comes last in ``SPLITS``."""
    last = np.full(len(groups), NOT_GIVEN, dtype=np.int8)
    np.maximum.at(last, groups, splits)
    return last[groups]
