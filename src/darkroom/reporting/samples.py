"""Picks which images to look at."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spread(images: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Returns up to ``count`` of the images, at equal distances, from the first one on."""
    count = min(count, len(images))
    return images[np.arange(count) * len(images) // max(count, 1)]


def lowest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Returns the indices of the lowest values, the lowest first; of equal ones the earlier."""
    return np.argsort(values, kind="stable")[:count]


def most_doubtful(
    differences: NDArray[np.float64], same_label: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """Returns the indices of the pairs that are least likely to be copies of each other.

    Those with different labels come first, then those that differ most.
    """
    return np.lexsort((-differences, same_label))[:count]


def share_out(sizes: Sequence[int], room: int) -> list[int]:
    """Divides ``room`` among groups: equal shares, and what a small group leaves goes to the others."""
    shares = [0] * len(sizes)
    for rank, group in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[group] = min(sizes[group], room // (len(sizes) - rank))
        room -= shares[group]
    return shares


def spread_over(groups: NDArray[np.int64], order: NDArray[np.int64], count: int, most: int) -> list[int]:
    """Return the first ``count`` images of ``order``, but at most ``most`` of one group.

    Args:
        groups: of each image, ``(n,)``.
        order: images, ``(n,)``, those wanted most first.
    """
    chosen: list[int] = []
    taken: Counter[int] = Counter()
    for image in order.tolist():
        group = int(groups[image])
        if len(chosen) < count and taken[group] < most:
            chosen.append(image)
            taken[group] += 1
    return chosen
