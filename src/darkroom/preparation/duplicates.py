"""Finds images that occur twice, with the same or nearly the same pixels.

Near duplicates are found by their perceptual hashes and then compared, in coarse cells and in detail, so
that images that merely look alike (a scene with and without a defect, two digits of a class) are not
duplicates.
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
"""Maximum number of images with which each image is compared: those with the closest hashes.

This bounds time and memory. In a cluster of many look-alikes a pair may be missed, although chains of
neighbours usually still join both images into one group.
"""

_QUERY_BLOCK = 4096  # images
_COMPARE_BLOCK_BYTES = 2**23

# Images with more distant hashes are not compared. Measured distances: at most 12.4 between photographs
# and their re-encoded, rescaled and brightened copies; below 16, which this allows, for 34 of the 35
# pairs in CIFAR-10 that differ by up to 0.1.
_RADIUS = 5.0
_RADIUS_PER_THRESHOLD = 110.0

# In units of the threshold: the maximum difference in detail of copies; of heavily changed copies that
# resemble no other image; and in coarse cells, of copies that agree in detail. Measured in
# benchmarks/near_duplicates.py, see docs/decisions/0016-near-pairs.md.
_SAME_DETAIL = 0.8
_SIMILAR_DETAIL = 3.0
_WORTH_DETAIL = 2.0

_FINER = 4
"""Minimum ratio of detailed to coarse cells for which details tell more."""

_FEW_LOOK_ALIKES = 2
"""An image with more look-alikes that are not its copies is in a crowd, where some agree by chance."""

_BLANK = 8 * LEVEL
"""An image whose cells differ by less is blank: it shows nothing that could be copied."""

_LARGEST_SHIFT = 255 * LEVEL // 10  # of brightness
_LARGEST_GAIN = 1.1  # of contrast
_GAIN_ONE = 1024
_LEAST_RANGE = 255 * LEVEL // 4


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images with nearly the same pixels."""

    pairs: NDArray[np.int64]
    """``(m, 2)``, first < second, sorted."""
    difference: NDArray[np.float64]
    """``(m,)``, the result of ``difference``, 0 to twice the threshold."""
    num_crowded: int
    """Number of images with MAX_NEIGHBOURS or more similar hashes; only the closest were compared."""
    num_look_alikes: int
    """Number of pairs whose ``difference`` is within the threshold, but which are not copies."""


def exact_duplicates(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return pairs of each image and the first image with the same digest.

    Args:
        digests: uint64 ``(n,)``, the first 8 bytes of a cryptographic hash. Among a million different
            images, two share them with a probability of 3e-8.

    Returns:
        int64 ``(m, 2)``: first occurrence and copy, sorted; one row per copy.
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
    """Find the pairs of images with nearly the same pixels.

    A pair counts if its images agree in detail, or if they are within ``threshold`` in coarse cells and
    hardly any other image looks like one of them. In a crowd of look-alikes (drawings of one class,
    frames of a video), images agree in coarse cells by chance. Blank images are copies of each other
    only if their pixels are the same.

    Copies that are re-encoded, rescaled, slightly noisy, or up to a tenth brighter or darker are found;
    cropped, shifted, mirrored, rotated and recoloured copies are not. The search takes up to 800 bytes
    of memory per image, and on two cores seconds for 100,000 images and minutes for a million
    (benchmarks/near_duplicates.py).

    Args:
        hashes: uint8 ``(n, HASH_BYTES)``, perceptual hashes. Exact duplicates should be excluded,
            because they fill up each other's MAX_NEIGHBOURS.
        gather: returns prepared images, uint8 ``(k, height, width, channels)``, for ascending indices,
            int64 ``(k,)``.
        threshold: maximum of ``difference``, 0..0.25; that of ``detailed_difference`` is 0.8 of it.
        advance: called with the number of further images that have been searched for.
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
        """Return the pairs of all parts, sorted and without duplicates."""
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
    """Compare pairs in coarse cells, and those that may be copies in detail."""
    indices, positions = np.unique(pairs, return_inverse=True)
    images = gather(indices)
    cells = comparable_cells(images)
    is_blank = np.ptp(cells, axis=(1, 2)).max(axis=1) < _BLANK
    first, second = positions.reshape(-1, 2).T
    between = difference(cells[first], cells[second])
    details = detailed_cells(images)
    # in small images, pixels show no more detail than coarse cells
    is_finer = details[0].size >= _FINER * cells[0, ..., 0].size
    largest = threshold * (_WORTH_DETAIL if is_finer else 1)
    chosen = (between <= largest) & ~(is_blank[first] & is_blank[second])
    first, second = first[chosen], second[chosen]
    return _Compared(
        pairs[chosen], between[chosen], detailed_difference(details[first], details[second])
    )


def comparable_cells(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return cell means, which re-encoding and rescaling hardly change.

    There are 8 to 32 cells per side, of at least 4 pixels if the image is large enough.

    Args:
        images: uint8 ``(n, height, width, channels)``.

    Returns:
        The result of ``cell_means``.
    """
    rows, columns = (min(max(side // 4, 8), 32) for side in images.shape[1:3])
    return cell_means(images, rows, columns)


def difference(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the largest difference between the images of each pair.

    A change of the whole image in brightness (by at most a tenth of 0..255) and contrast (by at most a
    factor of 1.1) is undone first. The unit is the range from the darkest to the brightest cell of the
    image with the smaller range, at least a quarter of 0..255.

    Args:
        first, second: int32 ``(n, rows, columns, channels)``, as ``comparable_cells`` returns.

    Returns:
        float64 ``(n,)``, 0 for equal images; exchanging first and second gives the same bits.
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
    # the image with lower contrast is amplified, so that the order of the two does not matter
    x_gain, y_gain = _gain(x_power, y_power), _gain(y_power, x_power)
    y *= y_gain[:, None]
    y += (excess * _GAIN_ONE).astype(np.int32)[:, None]
    x *= x_gain[:, None]
    y -= x
    largest = np.maximum(y.max(axis=1), -y.min(axis=1))
    return largest / (_GAIN_ONE * spans)


def group_of(num_images: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return groups of images that are connected by pairs, directly or through other images.

    Args:
        pairs: int64 ``(m, 2)``, indices below ``num_images``.

    Returns:
        int64 ``(num_images,)``: for each image the smallest index in its group, which is its own if it
        is in no pair.
    """
    edges = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(num_images, num_images))
    _, component = connected_components(edges, directed=False)
    _, smallest, component = np.unique(component, return_index=True, return_inverse=True)
    return smallest[component]


def _candidates(
    hashes: NDArray[np.uint8], radius: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Find the images with the closest hashes of each image.

    Yields:
        For each block of images: pairs, int64 ``(m, 2)``, first < second, sorted and unique in the
        block; and the number of neighbours of each image, up to MAX_NEIGHBOURS.
    """
    # Equal points would all be in one leaf, which each of them would search: n**2. Multiples of 2**-16
    # separate them and keep all sums that the tree compares exact.
    fractions = _rank_among_equals(hashes) % 2**16 / 2**16
    points = hashes.astype(np.float64)
    points[:, 0] += fractions
    tree = cKDTree(points, leafsize=32, copy_data=False)
    for start in range(0, len(points), _QUERY_BLOCK):
        block = points[start : start + _QUERY_BLOCK]
        # the closest is the image itself
        _, neighbours = tree.query(block, k=MAX_NEIGHBOURS + 1, distance_upper_bound=radius, workers=-1)
        images = np.arange(start, start + len(block))
        is_pair = (neighbours < len(points)) & (neighbours != images[:, None])
        first = np.broadcast_to(images[:, None], neighbours.shape)[is_pair]
        second = neighbours[is_pair].astype(np.int64)
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        yield np.unique(pairs, axis=0), is_pair.sum(axis=1)


def _rank_among_equals(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rank of each image, from 0, among those with the same hash."""
    order = np.lexsort(hashes.T)
    starts = _starts_of_runs(hashes[order])
    places = np.arange(len(hashes))
    rank = np.empty(len(hashes), np.int64)
    rank[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return rank


def _starts_of_runs(rows: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which sorted rows differ from the row before: bool ``(n,)``."""
    starts = np.ones(len(rows), bool)
    differs = rows[1:] != rows[:-1]
    starts[1:] = differs if differs.ndim == 1 else differs.any(axis=1)
    return starts


def _blocks(
    pairs: NDArray[np.int64], gather: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs in blocks whose images fit into memory."""
    if len(pairs):
        image_bytes = gather(pairs[0, :1]).nbytes
        step = max(1, _COMPARE_BLOCK_BYTES // (2 * image_bytes))
        for start in range(0, len(pairs), step):
            yield pairs[start : start + step]


def _range(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the largest range of a channel of each image, at least ``_LEAST_RANGE``: ``(n,)``."""
    return np.maximum(np.ptp(cells, axis=(1, 2)).max(axis=1), _LEAST_RANGE)


def _power(centred: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.einsum("ni,ni->n", centred, centred, dtype=np.int64)


def _gain(power: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the factor, in units of 1/_GAIN_ONE, that raises ``power`` to ``other``."""
    ratio = np.sqrt(other / np.maximum(power, 1))
    return (_GAIN_ONE * np.clip(ratio, 1, _LARGEST_GAIN)).astype(np.int32)
