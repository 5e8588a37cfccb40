"""Shares images with any number of labels out to parts, every label in the same proportions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Ints = NDArray[np.int64]


def stratify_iteratively(labels: csr_array, groups: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Shares images out to parts of about so many images, each group whole.

    Iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
    Data" (ECML PKDD 2011): of the labels that images are left of, the rarest is next. Each of its
    images goes to the part that lacks most images of this label; of several such parts to the one that
    lacks most images; of several still to any. Images without labels come last.

    A group is placed like an image that has all labels of its images, as often as they have them.
    Groups of several images are placed before single images, which then make up what parts lack; of
    one label, the largest first.

    Args:
        labels: ``(num_images, num_classes)``, 1 where an image has a label.
        groups: ``(num_images,)``, numbers from 0; images with the same one are a group.
        sizes: images wanted in each part; a part of none gets none.
        seed: decides on the order of groups of one size, and on parts that lack the same.

    Returns:
        int64 ``(num_images,)``: the part of each image.
    """
    random = np.random.RandomState(seed)  # unlike default_rng, its streams are frozen for ever
    _, unit_of = np.unique(groups, return_inverse=True)
    num_images = np.bincount(unit_of)
    ones = np.ones(len(unit_of), np.int64)
    units = csr_array((ones, (unit_of, np.arange(len(unit_of)))), shape=(len(num_images), len(unit_of)))
    units = (units @ labels).sorted_indices()

    placement = _Placement(units, num_images, sizes, random)
    order = random.permutation(len(num_images))
    order = order[np.argsort(-num_images[order], kind="stable")]
    placement.place(order[num_images[order] > 1])
    placement.place(order[num_images[order] == 1])
    return placement.parts[unit_of]


class _Placement:
    """Which units are in which part, and what the parts lack.

    Args:
        units: int64 ``(num_units, num_classes)``, the images of a unit with each label.
        num_images: of each unit, ``(num_units,)``.
    """

    def __init__(
        self, units: csr_array, num_images: Ints, sizes: Sequence[int], random: np.random.RandomState
    ) -> None:
        self.parts = np.full(len(num_images), -1)
        self._units = units
        self._num_images = num_images
        self._total = sum(sizes)
        self._allowed = [part for part, size in enumerate(sizes) if size > 0]
        self._ties = random.randint(0, 2**31, len(num_images)).tolist()
        # in units of 1 / total, so that what parts lack of their shares is whole and compares exactly
        self._lacking = np.outer(units.sum(axis=0), sizes).tolist()  # (num_classes, num_parts)
        self._lacking_images = [int(num_images.sum()) * size for size in sizes]

    def place(self, order: Ints) -> None:
        """Places some units, those that share a label in this order."""
        chosen = self._units[order]
        by_label = chosen.tocsc()
        left = chosen.sum(axis=0)
        while left.any():
            label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            rows = by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]
            for unit in order[np.sort(rows)].tolist():
                if self.parts[unit] < 0:
                    self._put(unit, self._part_for(unit, self._lacking[label]), left)
        for unit in order[self.parts[order] < 0].tolist():
            self._put(unit, self._part_for(unit, self._lacking_images), left)

    def _part_for(self, unit: int, lacking: list[int]) -> int:
        best = self._allowed
        for lacks in (lacking, self._lacking_images):
            most = max(lacks[part] for part in best)
            best = [part for part in best if lacks[part] == most]
        return best[self._ties[unit] % len(best)]

    def _put(self, unit: int, part: int, left: Ints) -> None:
        self.parts[unit] = part
        start, stop = self._units.indptr[unit], self._units.indptr[unit + 1]
        labels, counts = self._units.indices[start:stop], self._units.data[start:stop]
        left[labels] -= counts
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            self._lacking[label][part] -= count * self._total
        self._lacking_images[part] -= int(self._num_images[unit]) * self._total
