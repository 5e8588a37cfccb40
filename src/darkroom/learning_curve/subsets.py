"""Nested, stratified subsets of the training images, in which groups and duplicates stay together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, counted, listed
from darkroom.inputs import INPUT_WORDS, InputWords

MIN_SIZES = 3
"""Minimum number of sizes to which a curve can be fitted."""
MAX_NAMED = 5
"""Maximum number of classes in a message."""


@dataclass(frozen=True)
class SizedSubset:
    """The training images of one size."""

    percent: float
    rows: NDArray[np.int64]
    """Positions among the training images, ascending, ``(num_images,)``."""

    @property
    def num_images(self) -> int:
        return len(self.rows)

    def repeated(self, total: int) -> NDArray[np.int64]:
        """Return the rows, all equally often, so that there are about ``total``.

        An epoch then has about the same number of optimizer steps for each size.
        """
        return np.tile(self.rows, max(1, round(total / len(self.rows))))


def nested_subsets(
    strata: NDArray[np.int64],
    indicators: NDArray[np.bool_],
    groups: NDArray[np.int64],
    class_names: list[str],
    percents: list[float],
    seed: int,
    words: InputWords = INPUT_WORDS["image"],
) -> tuple[list[SizedSubset], list[str]]:
    """Return a subset for each size, each within the next, and remarks on sizes that are omitted.

    Within each class, the groups are put in a random order, and a subset takes them from the start: the
    first tenth of each class, the first fifth, and so on. A group counts for its rarest class. A size is
    omitted if a class would lose all its images, or if it has the same images as a smaller size.

    Args:
        strata: the class by which each image is stratified, int64 ``(n,)``.
        indicators: which classes each image has, bool ``(n, num_classes)``.
        groups: int64 ``(n,)``; images with the same number stay together.
        percents: ascending, above 0 and up to 100.
        words: for what there are subsets of.

    Raises:
        UserError: fewer than three sizes are left.
    """
    places = _places(strata, groups, seed)
    present = indicators.any(axis=0)
    subsets: list[SizedSubset] = []
    remarks = []
    for percent in percents:
        rows = np.flatnonzero(places <= percent / 100)
        missing = np.flatnonzero(present & ~indicators[rows].any(axis=0))
        if len(missing):
            names = listed((class_names[index] for index in missing), MAX_NAMED)
            what = "class" if len(missing) == 1 else "classes"
            remarks.append(
                f"{percent:g} % is left out: it would hold no {words.one} of the {what} {names}"
            )
        elif subsets and len(rows) == subsets[-1].num_images:
            remarks.append(
                f"{percent:g} % is left out: it has the same {words.several} as"
                f" {subsets[-1].percent:g} %"
            )
        else:
            subsets.append(SizedSubset(percent, rows))
    if len(subsets) < MIN_SIZES:
        reasons = f" ({'; '.join(remarks)})" if remarks else ""
        raise UserError(
            f"--sizes: a learning curve needs at least {MIN_SIZES} sizes, 100 % included, and there"
            f" {'is' if len(subsets) == 1 else 'are'} {counted(len(subsets), 'size')}{reasons};"
            " name more or larger ones"
        )
    return subsets, remarks


def _places(strata: NDArray[np.int64], groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return for each image the share of its class at which its group enters, 0..1."""
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    num_classes = int(strata.max()) + 1
    frequency = np.bincount(strata, minlength=num_classes)
    # images by the frequency of their class: the first one of each group has its rarest
    order = np.lexsort((strata, frequency[strata], group_of))
    first = order[np.r_[0, np.flatnonzero(np.diff(group_of[order])) + 1]]
    class_of = strata[first]
    random = np.random.RandomState(seed % 2**32)  # unlike default_rng, its streams never change
    places = np.empty(len(sizes))
    shuffled = random.permutation(len(sizes))
    for label in np.unique(class_of):
        chosen = shuffled[class_of[shuffled] == label]
        ends = np.cumsum(sizes[chosen])
        places[chosen] = (ends - sizes[chosen] / 2) / ends[-1]
    return places[group_of]
