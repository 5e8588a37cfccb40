"""Finds images that occur twice: the same pixels, or nearly the same pixels.

Near duplicates are looked up by their perceptual hashes and then compared, in coarse cells and in
detail, so that images that merely look alike (one scene with and without a defect, two digits of a
class) stay apart.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from darkroom.preparation.detail import detailed_cells, detailed_difference
from darkroom.preparation.measures import LEVEL, cell_means

MAX_NEIGHBOURS = 8
"""Each image is compared with so many of those whose hashes are nearest, at most.

In a cluster of many look-alikes a pair of images may so be missed, though chains of neighbours
mostly still join them into one group. Time and memory stay bounded.
"""

_QUERY_BLOCK = 4096  # images
_COMPARE_BLOCK_BYTES = 2**23

# Hashes that lie farther apart are not compared. Measured: at most 12.4 between photographs and their
# re-encoded, rescaled and brightened copies; 34 of the 35 pairs in CIFAR-10 that differ by up to 0.1
# lie within the 16 that this allows.
_RADIUS = 5.0
_RADIUS_PER_THRESHOLD = 110.0

# In units of the threshold: how far copies may be apart in detail; those that were changed heavily,
# where nothing else looks like them; and in coarse cells, where their details agree. Measured in
# benchmarks/near_duplicates.py, see docs/decisions/0016-near-pairs.md.
_SAME_DETAIL = 0.8
_SIMILAR_DETAIL = 3.0
_WORTH_DETAIL = 2.0

_FINER = 4
"""Times as many cells as the coarse ones show more than they do."""

_FEW_LOOK_ALIKES = 2
"""An image with more of them that are not its copies is in a crowd: two agree there by chance."""

_BLANK = 8 * LEVEL
"""An image whose cells differ by less shows nothing that could be copied."""

_LARGEST_SHIFT = 255 * LEVEL // 10  # of brightness
_LARGEST_GAIN = 1.1  # of contrast
_GAIN_ONE = 1024
_LEAST_RANGE = 255 * LEVEL // 4


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that are nearly the same."""

    pairs: NDArray[np.int64]
    """``(m, 2)``, first < second, sorted."""
    difference: NDArray[np.float64]
    """``(m,)``, as ``difference`` returns, 0 to twice the threshold."""
    num_crowded: int
    """Images with MAX_NEIGHBOURS or more similar hashes, of which only the nearest were compared."""
    num_look_alikes: int
    """Pairs whose ``difference`` is within the threshold, but which are not copies of each other."""


def exact_duplicates(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs each image with the first one that has the same digest.

    Args:
        digests: uint64 ``(n,)``, the first 8 bytes of a cryptographic hash. That two of a million
            different images share them has a chance of 3e-8.

    Returns:
        int64 ``(m, 2)``: first occurrence and copy, sorted; a row for each copy.
    """
    order = np.argsort(digests, kind="stable")
    starts = _starts_of_runs(digests[order])
    copies = np.flatnonzero(~starts)
    firsts = np.flatnonzero(starts)[np.cumsum(starts)[copies] - 1]
    pairs = np.stack([order[firsts], order[copies]], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def near_duplicates(
    hashes: NDArray[np.uint8],
    gather: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    threshold: float,
    advance: Callable[[int], None],
) -> NearDuplicates:
    """Finds the pairs of images that are nearly the same.

    A pair counts if its images agree in detail, or if they are within ``threshold`` in coarse cells
    while next to no other image looks like either of them. In a crowd of look-alikes (drawings of one
    class, frames of a video) agreement in coarse cells alone is chance. Images that show nothing, such
    as blank scans, are no copies of each other unless their pixels are the same.

    Re-encoded, rescaled, faintly noisy and up to a tenth brighter or darker copies are found;
    cropped, moved, mirrored, turned and recoloured ones are not. Takes up to 800 bytes of memory an
    image, and on two cores seconds for 100,000 images, minutes for a million
    (benchmarks/near_duplicates.py).

    Args:
        hashes: uint8 ``(n, HASH_BYTES)``, perceptual hashes. Exact duplicates are better left out:
            they fill up each other's MAX_NEIGHBOURS.
        gather: returns prepared images, uint8 ``(k, height, width, channels)``, for ascending
            indices, int64 ``(k,)``.
        threshold: 0..0.25, of ``difference``; that of ``detailed_difference`` is 0.8 of it.
        advance: told how many more images have been looked up.
    """
    found = _Compared.none()
    num_alike = np.zeros(len(hashes), np.int64)
    radius = _RADIUS + _RADIUS_PER_THRESHOLD * threshold
    parts = [found]
    done = 0
    for candidates, num_neighbours in _candidates(hashes, radius):
        parts.extend(_compare(pairs, gather, threshold) for pairs in _blocks(candidates, gather))
        num_alike[done : done + len(num_neighbours)] = num_neighbours
        done += len(num_neighbours)
        advance(len(num_neighbours))
    found = _Compared.join(parts)
    same_detail = found.detail <= _SAME_DETAIL * threshold
    copies = np.bincount(found.pairs[same_detail].ravel(), minlength=len(hashes))
    is_crowded = num_alike - copies > _FEW_LOOK_ALIKES
    is_close = found.difference <= threshold
    is_alone = ~is_crowded[found.pairs].any(axis=1) & (found.detail <= _SIMILAR_DETAIL * threshold)
    is_copy = same_detail | (is_close & is_alone)
    return NearDuplicates(
        found.pairs[is_copy],
        found.difference[is_copy],
        num_crowded=int((num_alike >= MAX_NEIGHBOURS).sum()),
        num_look_alikes=int((is_close & ~is_copy).sum()),
    )


@dataclass(frozen=True)
class _Compared:
    """Pairs that were compared in coarse cells and in detail."""

    pairs: NDArray[np.int64]
    """``(m, 2)``, first < second."""
    difference: NDArray[np.float64]
    """``(m,)``, in coarse cells."""
    detail: NDArray[np.float64]
    """``(m,)``, in detail."""

    @classmethod
    def none(cls) -> "_Compared":
        return cls(np.empty((0, 2), np.int64), np.empty(0), np.empty(0))

    @classmethod
    def join(cls, parts: "Sequence[_Compared]") -> "_Compared":
        """Sorts the pairs of all parts; a pair that was met from either side stays once."""
        pairs, where = np.unique(
            np.concatenate([part.pairs for part in parts]), axis=0, return_index=True
        )
        difference = np.concatenate([part.difference for part in parts])[where]
        return cls(pairs, difference, np.concatenate([part.detail for part in parts])[where])


def _compare(
    pairs: NDArray[np.int64],
    gather: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    threshold: float,
) -> _Compared:
    """Compares pairs, first in coarse cells; in detail those that may be copies by them."""
    indices, positions = np.unique(pairs, return_inverse=True)
    images = gather(indices)
    cells = comparable_cells(images)
    is_blank = np.ptp(cells, axis=(1, 2)).max(axis=1) < _BLANK
    first, second = positions.reshape(-1, 2).T
    between = difference(cells[first], cells[second])
    details = detailed_cells(images)
    # a few pixels hold no more detail than their coarse cells
    is_finer = details[0].size >= _FINER * cells[0, ..., 0].size
    largest = threshold * (_WORTH_DETAIL if is_finer else 1)
    chosen = (between <= largest) & ~(is_blank[first] & is_blank[second])
    first, second = first[chosen], second[chosen]
    return _Compared(
        pairs[chosen], between[chosen], detailed_difference(details[first], details[second])
    )


def comparable_cells(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Averages away what re-encoding and rescaling change.

    Cells have 4 pixels and more along a side; 8 to 32 cells, as far as there are pixels.

    Args:
        images: uint8 ``(n, height, width, channels)``.

    Returns:
        As ``cell_means``.
    """
    rows, columns = (min(max(side // 4, 8), 32) for side in images.shape[1:3])
    return cell_means(images, rows, columns)


def difference(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compares pairs of images: how far apart they are where they differ most.

    A change of the whole image in brightness (by at most a tenth of 0..255) and contrast (at most a
    factor of 1.1) is undone first. What is left is measured in units of the range from the image's
    darkest to its brightest cell, the smaller one of the two images, at least a quarter of 0..255.

    Args:
        first, second: int32 ``(n, rows, columns, channels)``, as ``comparable_cells`` returns.

    Returns:
        float64 ``(n,)``, 0 for equal images; the same bits if first and second are exchanged.
    """
    shape = (len(first), -1)
    spans = np.minimum(_range(first), _range(second))
    means = [np.floor_divide(x.reshape(shape).sum(axis=1), x[0].size) for x in (first, second)]
    x, y = (
        cells.reshape(shape) - mean[:, None].astype(np.int32)
        for cells, mean in zip((first, second), means, strict=True)
    )
    shift = means[1] - means[0]
    excess = shift - np.clip(shift, -_LARGEST_SHIFT, _LARGEST_SHIFT)
    x_power, y_power = (_power(cells) for cells in (x, y))
    # whichever has the lower contrast is raised: otherwise the order of the two would matter
    x_gain, y_gain = _gain(x_power, y_power), _gain(y_power, x_power)
    y *= y_gain[:, None]
    y += (excess * _GAIN_ONE).astype(np.int32)[:, None]
    x *= x_gain[:, None]
    y -= x
    largest = np.maximum(y.max(axis=1), -y.min(axis=1))
    return largest / (_GAIN_ONE * spans)


def group_of(num_images: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joins images that pairs connect, directly or by way of others.

    Args:
        pairs: int64 ``(m, 2)``, indices below ``num_images``.

    Returns:
        int64 ``(num_images,)``: for each image the smallest index in its group; its own if it is
        in no pair.
    """
    edges = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(num_images, num_images))
    _, component = connected_components(edges, directed=False)
    _, smallest, component = np.unique(component, return_index=True, return_inverse=True)
    return smallest[component]


def _candidates(
    hashes: NDArray[np.uint8], radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Looks up each image's nearest hashes.

    Yields:
        For each block of images: pairs, int64 ``(m, 2)``, first < second, sorted and unique in the
        block; and how many neighbours each image has, up to MAX_NEIGHBOURS.
    """
    # Equal points would all lie in one leaf, which each of them would search: n**2. Fractions
    # of 2**-16 keep them apart, and every sum that the tree compares exact.
    fractions = _rank_among_equals(hashes) % 2**16 / 2**16
    points = hashes.astype(np.float64)
    points[:, 0] += fractions
    tree = cKDTree(points, leafsize=32, copy_data=False)
    for start in range(0, len(points), _QUERY_BLOCK):
        block = points[start : start + _QUERY_BLOCK]
        # the nearest of all is the image itself
        _, neighbours = tree.query(block, k=MAX_NEIGHBOURS + 1, distance_upper_bound=radius, workers=-1)
        images = np.arange(start, start + len(block))
        is_pair = (neighbours < len(points)) & (neighbours != images[:, None])
        first = np.broadcast_to(images[:, None], neighbours.shape)[is_pair]
        second = neighbours[is_pair].astype(np.int64)
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        yield np.unique(pairs, axis=0), is_pair.sum(axis=1)


def _rank_among_equals(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers the images that have one and the same hash from 0, in their order."""
    order = np.lexsort(hashes.T)
    starts = _starts_of_runs(hashes[order])
    places = np.arange(len(hashes))
    rank = np.empty(len(hashes), np.int64)
    rank[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return rank


def _starts_of_runs(rows: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Marks where sorted rows differ from the row before: bool ``(n,)``."""
    starts = np.ones(len(rows), bool)
    differs = rows[1:] != rows[:-1]
    starts[1:] = differs if differs.ndim == 1 else differs.any(axis=1)
    return starts


def _blocks(
    pairs: NDArray[np.int64], gather: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
) -> Iterator[NDArray[np.int64]]:
    """Cuts pairs into blocks whose images fit into memory."""
    if len(pairs):
        image_bytes = gather(pairs[0, :1]).nbytes
        step = max(1, _COMPARE_BLOCK_BYTES // (2 * image_bytes))
        for start in range(0, len(pairs), step):
            yield pairs[start : start + step]


def _range(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns ``(n,)``: of the channel where it is largest, and at least ``_LEAST_RANGE``."""
    return np.maximum(np.ptp(cells, axis=(1, 2)).max(axis=1), _LEAST_RANGE)


def _power(centred: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.einsum("ni,ni->n", centred, centred, dtype=np.int64)


def _gain(power: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the factor, in units of 1/_GAIN_ONE, that brings ``power`` up to the other's."""
    ratio = np.sqrt(other / np.maximum(power, 1))
    return (_GAIN_ONE * np.clip(ratio, 1, _LARGEST_GAIN)).astype(np.int32)
