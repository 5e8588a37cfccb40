"""Compares images in detail: whether one is a copy of the other, or only looks like it.

Two drawings of a class can agree in coarse cells by chance, as thousands of drawings with thin strokes
do. A copy also agrees in single pixels, after undoing what re-encoding and rescaling change in the whole
image: brightness, contrast and sharpness.
"""

import numpy as np
from numpy.typing import NDArray

from darkroom.preparation.measures import LEVEL, cell_means, grey_of

MAX_CELLS = 64
"""Maximum number of cells per side. Smaller images are compared pixel by pixel."""

_UNIT = 4 * LEVEL  # per grey level, because four cells are summed
_LARGEST_SHIFT = 255 * _UNIT // 10  # of brightness
_LARGEST_GAIN = 1.1  # of contrast
_LARGEST_BLUR = 4.0  # times _softened; about the effect of halving and enlarging an image
_ONE = 1024  # unit of gain and blur
_LEAST_RANGE = 255 * _UNIT // 4
_BLOCK_CELLS = 2**19  # in the pairs that are compared at once


def detailed_cells(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return up to ``MAX_CELLS`` grey cells per side, each summed with those to its right and below.

    This removes the patterns that encoders leave in single pixels, and keeps the position of edges.

    Args:
        images: uint8 ``(n, height, width, channels)``, 0..255.

    Returns:
        int32 ``(n, rows, columns)``, in units of 1/64 grey level.
    """
    cells = grey_of(cell_means(images, MAX_CELLS, MAX_CELLS)).astype(np.int32)
    for axis in (1, 2):
        count = cells.shape[axis]
        following = np.minimum(np.arange(1, max(count, 2)), count - 1)
        cells = cells.take(np.arange(max(count - 1, 1)), axis=axis) + cells.take(following, axis=axis)
    return cells


def detailed_difference(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the largest difference in detail between the images of each pair.

    A change of the whole image in brightness (by at most a tenth of 0..255), contrast (by at most a
    factor of 1.1) and sharpness is undone first, by least squares. The unit is the range from the
    darkest to the brightest cell of the image with the smaller range, at least a quarter of 0..255.

    Args:
        first, second: int32 ``(n, rows, columns)``, as ``detailed_cells`` returns.

    Returns:
        float64 ``(n,)``, 0 for equal images; exchanging first and second gives the same bits.
    """
    differences = np.empty(len(first))
    step = max(1, _BLOCK_CELLS // max(first[0].size, 1)) if len(first) else 1
    for start in range(0, len(first), step):
        block = slice(start, start + step)
        differences[block] = _compare(first[block], second[block])
    return differences


def _compare(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
    spans = np.maximum(
        np.minimum(*(np.ptp(cells, axis=(1, 2)) for cells in (first, second))), _LEAST_RANGE
    )
    means = [cells.sum(axis=(1, 2)) // cells[0].size for cells in (first, second)]
    x, y = (
        cells.astype(np.int64) - mean[:, None, None]
        for cells, mean in zip((first, second), means, strict=True)
    )
    excess = np.maximum(np.abs(means[1] - means[0]) - _LARGEST_SHIFT, 0)
    x_softer, y_softer = _softened(x), _softened(y)
    left = np.minimum(_unexplained(y, x, x_softer), _unexplained(x, y, y_softer))
    return left / (16 * _ONE * spans) + excess / spans


def _softened(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 16 times the change by blurring with the binomial kernel (1, 2, 1) in each direction."""
    soft = cells
    for axis in (1, 2):
        count = cells.shape[axis]
        places = np.arange(count)
        before = soft.take(np.maximum(places - 1, 0), axis=axis)
        after = soft.take(np.minimum(places + 1, count - 1), axis=axis)
        soft = before + 2 * soft + after
    return soft - 16 * cells


def _unexplained(
    target: NDArray[np.int64], source: NDArray[np.int64], softer: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the largest remainder of ``target`` after fitting gain and blur of ``source``.

    Sums of integers are exact, and gain and blur are rounded to 1/1024, so that the same pixels give the
    same bits on every machine.

    Returns:
        int64 ``(n,)``, in 1/(16 * 1024) of the units of the cells.
    """
    power, soft_power, common = _dot(source, source), _dot(softer, softer), _dot(source, softer)
    along, soft_along = _dot(source, target), _dot(softer, target)
    determinant = power * soft_power - common * common
    gain = (soft_power * along - common * soft_along) / np.where(determinant > 0, determinant, 1)
    gain = np.where(determinant > 0, gain, 1.0)
    gain = np.clip(gain, 1 / _LARGEST_GAIN, _LARGEST_GAIN)
    blur = 16 * (soft_along - gain * common) / np.maximum(soft_power, 1)
    blur = np.clip(blur, 0, _LARGEST_BLUR)
    whole_gain, whole_blur = (
        np.floor(_ONE * x + 0.5).astype(np.int64)[:, None, None] for x in (gain, blur)
    )
    left = 16 * (_ONE * target - whole_gain * source) - whole_blur * softer
    return np.abs(left).max(axis=(1, 2))


def _dot(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the dot product of each pair: float64 ``(n,)``."""
    return np.einsum("nij,nij->n", first, second).astype(np.float64)
