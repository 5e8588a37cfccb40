"""Antialiased resizing in exact integer arithmetic: the weights, and the resizing of whole images.

The filter is that of Pillow and of torchvision's ``antialias=True``: a triangle around each position of
the result, as wide as the step between two positions, but at least two pixels wide. When an image is
enlarged, this is bilinear interpolation. Weights are multiples of 1/256 that sum to 1, so a weighted sum
over both axes has at most 24 bits, which int32 and float32 hold exactly. The result does not depend on
the order of the sum, and is the same with NumPy and with PyTorch on any device.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_BITS = 8
WEIGHT_ONE = 1 << WEIGHT_BITS
"""Unit of the weights along an axis."""

Integers = TypeVar("Integers", NDArray[np.int64], "Tensor")


def num_taps(length: int, size: int) -> int:
    """Return the maximum number of pixels with a weight, from ``length`` to ``size`` pixels."""
    return -(-2 * max(length, size) // size)


def taps(
    lengths: Integers, size: int, positions: Integers, offsets: Integers
) -> tuple[Integers, Integers]:
    """Return which pixels contribute to each position along an axis, and their weights.

    Args:
        lengths: int64 ``(n, 1, 1)``, the number of pixels to resize, at least 1.
        size: the number of pixels of the result.
        positions: int64 ``(size, 1)``: 0, 1, ...
        offsets: int64 ``(num_taps,)``: 0, 1, ...

    Returns:
        pixels: int64 ``(n, size, num_taps)``, 0..length - 1;
        weights: int64 of the same shape, 0..WEIGHT_ONE, whose sum over the taps is WEIGHT_ONE.
    """
    # in units of 1 / (2 * size) pixel, in which all centres of pixels are integers
    reach = 2 * lengths.clip(min=size)
    centres = (2 * positions + 1) * lengths
    pixels = ((centres - reach) // size + 1) // 2 + offsets
    is_inside = (pixels >= 0) & (pixels < lengths)
    heights = (reach - abs((2 * pixels + 1) * size - centres)).clip(min=0) * is_inside
    # rounded cumulatively, so that the sum is exact
    sums = heights.cumsum(-1)
    total = sums[..., -1:]
    rounded = -((total - 2 * WEIGHT_ONE * sums) // (2 * total))
    weights = rounded + 0
    weights[..., 1:] = rounded[..., 1:] - rounded[..., :-1]
    return (pixels * is_inside) + (lengths - 1) * (pixels >= lengths), weights


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize whole images.

    Args:
        images: uint8 ``(n, height, width, channels)``.
        size: height and width of the result.

    Returns:
        uint8 ``(n, *size, channels)``, rounded to the nearest level, half up.
    """
    sums = images.astype(np.int32)
    for axis in (1, 2):
        sums = _resized(sums, axis, size[axis - 1])
    half = 1 << (2 * WEIGHT_BITS - 1)
    return ((sums + half) >> (2 * WEIGHT_BITS)).astype(np.uint8)


def _resized(values: NDArray[np.int32], axis: int, size: int) -> NDArray[np.int32]:
    """Return weighted sums of int32 ``values`` along an axis, in units of 1 / WEIGHT_ONE."""
    length = values.shape[axis]
    offsets = np.arange(num_taps(length, size))
    pixels, weights = taps(np.array([[[length]]]), size, np.arange(size)[:, None], offsets)
    shape = [1] * values.ndim
    shape[axis] = size
    total = np.zeros((*values.shape[:axis], size, *values.shape[axis + 1 :]), np.int32)
    for pixel, weight in zip(pixels[0].T, weights[0].T.astype(np.int32), strict=True):
        total += values.take(pixel, axis) * weight.reshape(shape)
    return total
