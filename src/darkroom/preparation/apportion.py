"""Shares groups of images out to parts, every class in the same proportions."""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def share_out(labels: Ints, groups: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Shares images out to parts of so many images, each group whole, each class alike.

    First the groups of several images, by ``_place_groups``; then single images make up, class by
    class, what each part still lacks of its share. Of a class that groups leave room for, the first
    part gets its share rounded up or down and the second less than two images more or less. Else, if
    each group is of one class and has at most ``m`` images, each of three parts gets at most
    ``m + 2`` images more and ``1.5 m + 2`` fewer.

    Returns:
        ``(num_images,)``: the part of each image.
    """
    random = np.random.RandomState(seed)  # unlike default_rng, its streams are frozen for ever
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
    """Places groups one by one, the largest first, each where it disturbs the shares least.

    That is where it adds least to the sum over parts and classes of ``count ** 2 / share``, which is
    lowest if all counts are in proportion to the shares. For groups of one class this is
    Sainte-Lague's method of apportionment; the idea is that of scikit-learn's StratifiedGroupKFold.

    Args:
        shares: images wanted, ``(num_parts, num_classes)``; a part with none gets no group.
        random: decides on the order of groups of one size.

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
            # fsum, as the last bit of sum() differs between versions of Python
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
    """Rounds each value up or down so that the sum comes as near to ``total`` as it can.

    Those with the largest remainders are rounded up (Hamilton's method of apportionment).
    """
    low = np.floor(values).astype(np.int64)
    remainders = values - low
    num_up = int(np.clip(total - low.sum(), 0, np.count_nonzero(remainders)))
    low[np.argsort(-remainders, kind="stable")[:num_up]] += 1
    return low
