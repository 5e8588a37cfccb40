"""Random draws of the augmentations.

Each augmentation has its own blocks of four random words, so that enabling one does not change the draws
of the others.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.loading.philox import below, philox

STREAM = 2
SHIFT_AND_FLIP = range(1)
RESIZED_CROP = range(1, 7)
AFFINE = range(7, 8)
COLOUR = range(8, 9)
ERASE = range(9, 15)
MIX = range(15, 16)
HOST = range(16, 17)
CROP = range(17, 18)

ONE = 1 << 16
"""Unit of shares and factors that are stored as integers."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def draw_words(seed: int, epoch: int, sample_ids: Tensor, blocks: Sequence[int]) -> Ints:
    """Return four random words per sample and block.

    Args:
        seed: 0..2**32 - 1.
        epoch: counted from 0.
        sample_ids: int64 ``(n,)`` on the CPU, 0..2**32 - 1.
        blocks: numbers of blocks; block 0 holds ``philox.words(seed, STREAM, ...)``.

    Returns:
        int64 ``(n, 4 * len(blocks))``, uniform in 0..2**32 - 1.
    """
    counter = torch.zeros(len(sample_ids), len(blocks), 4, dtype=torch.int64)
    counter[:, :, 0] = sample_ids[:, None]
    counter[:, :, 1] = epoch
    counter[:, :, 2] = torch.tensor(blocks)
    return philox(counter.view(-1, 4), (seed, STREAM)).view(len(sample_ids), -1).numpy()


def uniform(words: Ints, low: float = 0.0, high: float = 1.0) -> Floats:
    """Map words to float64 in ``[low, high)``."""
    return low + words / 2**32 * (high - low)


def rounded(values: Floats) -> Ints:
    """Round to the nearest integer, half to even."""
    return np.rint(values).astype(np.int64)


def quotient(numbers: Tensor, divisor: int) -> Tensor:
    """Divide integers: float32, rounded alike on CPU and GPU.

    On a GPU, torch would multiply by the rounded reciprocal of a Python number. It divides by a tensor.
    """
    return numbers / torch.full((1,), divisor, device=numbers.device)


def elementwise(function: Callable[[float], float], values: Floats) -> Floats:
    """Apply a function of ``math`` to each value.

    NumPy's functions may round differently in the vectorised part of an array and in its remainder, so
    that a sample's draw would depend on its neighbours.
    """
    return np.array([function(value) for value in values.ravel().tolist()]).reshape(values.shape)


def draw_rectangles(
    words: Ints,
    areas: tuple[float, float],
    ratios: tuple[float, float],
    largest: tuple[int, int],
    height: int,
    width: int,
) -> tuple[Ints, NDArray[np.bool_]]:
    """Draw rectangles like torchvision's RandomResizedCrop and RandomErasing.

    The result is the first of ten attempts whose sides fit. The area, the logarithm of the ratio of
    width to height, and the position are uniform.

    Args:
        words: int64 ``(n, 22 or more)``.
        areas: minimum and maximum share of the image's area.
        ratios: minimum and maximum of width / height.
        largest: maximum height and width.

    Returns:
        int64 ``(n, 4)``: top, left, height and width in pixels; bool ``(n,)``: whether an attempt fit.
    """
    area = uniform(words[:, :10], *areas) * (height * width)
    ratio = elementwise(math.exp, uniform(words[:, 10:20], math.log(ratios[0]), math.log(ratios[1])))
    heights, widths = rounded(np.sqrt(area / ratio)), rounded(np.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= largest[0]) & (widths >= 1) & (widths <= largest[1])
    first = (np.arange(len(words)), fits.argmax(axis=1))
    found = fits[first]
    sides = np.stack((heights[first], widths[first]), axis=1) * found[:, None]
    corners = below(words[:, 20:22], np.array([height, width]) - sides + 1)
    return np.concatenate((corners, sides), axis=1), found
