"""Choose which images a report shows."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spread(images: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to ``count`` images at equal distances, beginning with the first."""
    count = min(count, len(images))
    return images[np.arange(count) * len(images) // max(count, 1)]


def lowest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the indices of the lowest values in ascending order; ties keep their order."""
    return np.argsort(values, kind="stable")[:count]


def most_doubtful(
    differences: NDArray[np.float64], same_label: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """Return the indices of the pairs that are least likely to be duplicates.

    Pairs with different labels come first, then those with the largest differences.
    """
    return np.lexsort((-differences, same_label))[:count]


def equal_shares(sizes: Sequence[int], room: int) -> list[int]:
    """Return equal shares of ``room``; what a small group does not need goes to the others."""
    shares = [0] * len(sizes)
    for rank, group in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[group] = min(sizes[group], room // (len(sizes) - rank))
        room -= shares[group]
    return shares


def spread_over(groups: NDArray[np.int64], order: NDArray[np.int64], count: int, most: int) -> list[int]:
    """Return the first ``count`` images in ``order``, but at most ``most`` per group.

    Args:
        groups: the group of each image, ``(n,)``.
        order: the images in order of preference, ``(n,)``.
    """
    chosen: list[int] = []
    taken: Counter[int] = Counter()
    for image in order.tolist():
        group = int(groups[image])
        if len(chosen) < count and taken[group] < most:
            chosen.append(image)
            taken[group] += 1
    return chosen
