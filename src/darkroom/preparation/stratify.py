"""Divides images into parts of given sizes with every class, or label, in the same proportions.

Groups are never divided. scikit-learn has no equivalent: its splitters place groups only into equal
folds, and know no images with several labels.
"""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Ints = NDArray[np.int64]


def fold_sizes(num_images: int, num_folds: int) -> list[int]:
    """Return the number of images in each fold."""
    return [(num_images + later) // num_folds for later in range(num_folds)]


def stratify_groups(labels: Ints, groups: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Divide images with one label each into parts of the given sizes.

    Groups of several images are placed first, by ``_place_groups``. Single images then fill, class by
    class, what each part lacks of its share. If the groups leave room in a class, the first part gets
    its share rounded up or down, and the second deviates by less than two images. Otherwise, if each
    group has one class and at most ``m`` images, each of three parts gets at most ``m + 2`` images
    more, or ``1.5 m + 2`` fewer, than its share.

    Args:
        labels, groups: ``(num_images,)``, numbers from 0; images with the same group stay together.
        sizes: the number of images wanted in each part.

    Returns:
        int64 ``(num_images,)``: the part of each image.
    """
    random = np.random.RandomState(seed)  # unlike default_rng, its streams never change
    num_parts, num_classes = len(sizes), int(labels.max()) + 1
    shares = np.outer(sizes, np.bincount(labels)) / len(labels)  # images: (parts, classes)
    is_single = np.bincount(groups)[groups] == 1
    parts = np.empty_like(labels)

    several = np.flatnonzero(~is_single)
    parts[several] = _place_groups(labels[several], groups[several], shares, random)
    placed = np.bincount(parts[several] * num_classes + labels[several], minlength=shares.size)
    placed = placed.reshape(shares.shape)

    single = random.permutation(np.flatnonzero(is_single))
    single = single[np.argsort(labels[single], kind="stable")]
    left = np.bincount(labels[single], minlength=num_classes)
    rank = np.arange(len(single)) - (np.cumsum(left) - left)[labels[single]]  # within the class
    parts[single] = 0
    taken = np.zeros_like(left)
    lacking = np.maximum(shares - placed, 0)
    for part in range(num_parts - 1):
        all_lacking = reduce(np.add, lacking[part:])
        share = np.divide(lacking[part], all_lacking, out=np.zeros(num_classes), where=all_lacking > 0)
        quota = _round_to_sum(left * share, sizes[part] - int(placed[part].sum()))
        left, taken = left - quota, taken + quota
        parts[single] += rank >= taken[labels[single]]
    return parts


def _place_groups(
    labels: Ints, groups: Ints, shares: NDArray[np.float64], random: np.random.RandomState
) -> Ints:
    """Place groups one by one, the largest first, each in the part whose shares it disturbs least.

    This is the part with the lowest increase of the sum over parts and classes of
    ``count ** 2 / share``, which is minimal if all counts are proportional to the shares. For groups of
    one class this is the Sainte-Lague method of apportionment; scikit-learn's StratifiedGroupKFold
    follows the same idea.

    Args:
        shares: ``(num_parts, num_classes)``, the number of images wanted; a part with 0 gets no group.
        random: determines the order of groups of equal size.

    Returns:
        ``(num_images,)``: the part of each image.
    """
    num_classes = shares.shape[1]
    pairs, counts = np.unique(groups * num_classes + labels, return_counts=True)
    pair_groups, pair_labels = np.divmod(pairs, num_classes)
    _, starts, members = np.unique(pair_groups, return_index=True, return_counts=True)
    order = random.permutation(len(starts))
    order = order[np.argsort(-np.add.reduceat(counts, starts)[order], kind="stable")]

    wanted: list[list[float]] = shares.tolist()
    placed = [[0] * num_classes for _ in wanted]
    part_of = np.empty(int(groups.max()) + 1, dtype=np.int64)
    for group in order.tolist():
        rows = slice(starts[group], starts[group] + members[group])
        content = list(zip(pair_labels[rows].tolist(), counts[rows].tolist(), strict=True))
        costs = [
            # fsum, because the last bit of sum() differs between versions of Python
            math.fsum(count * (2 * has[label] + count) / wants[label] for label, count in content)
            if all(wants[label] for label, _ in content)
            else math.inf
            for has, wants in zip(placed, wanted, strict=True)
        ]
        part = costs.index(min(costs))
        part_of[pair_groups[starts[group]]] = part
        for label, count in content:
            placed[part][label] += count
    return part_of[groups]


def _round_to_sum(values: NDArray[np.float64], total: int) -> Ints:
    """Round each value up or down so that the sum is as close to ``total`` as possible.

    The values with the largest remainders are rounded up (Hamilton's method of apportionment).
    """
    low = np.floor(values).astype(np.int64)
    remainders = values - low
    num_up = int(np.clip(total - low.sum(), 0, np.count_nonzero(remainders)))
    low[np.argsort(-remainders, kind="stable")[:num_up]] += 1
    return low


def stratify_iteratively(labels: csr_array, groups: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Divide images with any number of labels into parts of about the given sizes.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
    Data", ECML PKDD 2011): repeatedly take the rarest label among the remaining images. Each of its
    images goes to the part that lacks most images with this label; on a tie, to the part that lacks
    most images; on a further tie, to a random one. Images without labels come last.

    A group is placed like one image that has all the labels of its images, each as often as it occurs.
    Groups of several images are placed before single images, which then fill the gaps; for each label
    the largest group comes first.

    Args:
        labels: ``(num_images, num_classes)``, 1 if an image has a label.
        groups: ``(num_images,)``, numbers from 0; images with the same number are a group.
        sizes: the number of images wanted in each part; a part of size 0 stays empty.
        seed: determines the order of groups of equal size, and breaks ties.

    Returns:
        int64 ``(num_images,)``: the part of each image.
    """
    random = np.random.RandomState(seed)  # unlike default_rng, its streams never change
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
    """The part of each unit (a group or a single image), and the images that each part lacks.

    Args:
        units: int64 ``(num_units, num_classes)``, the number of images of a unit with each label.
        num_images: int64 ``(num_units,)``, the number of images of each unit.
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
        # in units of 1 / total, so that the missing shares are integers and compare exactly
        self._lacking = np.outer(units.sum(axis=0), sizes).tolist()  # (num_classes, num_parts)
        self._lacking_images = [int(num_images.sum()) * size for size in sizes]

    def place(self, order: Ints) -> None:
        """Place some units; those with the same label in the given order."""
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
