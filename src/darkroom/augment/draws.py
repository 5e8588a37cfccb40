"""Random words of the augmentations: which of them each change is drawn from.

Every change has blocks of four words of its own, so that switching one on leaves the others as
they were drawn.
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

ONE = 1 << 16
"""What stands for 1 where a share or a factor is held as a whole number."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def draw_words(seed: int, epoch: int, sample_ids: Tensor, blocks: Sequence[int]) -> Ints:
    """Returns four random words a sample and block.

    Args:
        seed: 0..2**32 - 1.
        epoch: counted from 0.
        sample_ids: int64 ``(n,)`` on the CPU, 0..2**32 - 1.
        blocks: numbers of blocks; those of block 0 are ``philox.words(seed, STREAM, ...)``.

    Returns:
        int64 ``(n, 4 * len(blocks))``, uniform in 0..2**32 - 1.
    """
    counter = torch.zeros(len(sample_ids), len(blocks), 4, dtype=torch.int64)
    counter[:, :, 0] = sample_ids[:, None]
    counter[:, :, 1] = epoch
    counter[:, :, 2] = torch.tensor(blocks)
    return philox(counter.view(-1, 4), (seed, STREAM)).view(len(sample_ids), -1).numpy()


def uniform(words: Ints, low: float = 0.0, high: float = 1.0) -> Floats:
    """Maps words to numbers in ``[low, high)``, float64."""
    return low + words / 2**32 * (high - low)


def whole(values: Floats) -> Ints:
    """Rounds to the nearest whole number, a half to the even one."""
    return np.rint(values).astype(np.int64)


def each(function: Callable[[float], float], values: Floats) -> Floats:
    """Applies one of ``math``'s functions to each value.

    numpy's own may round differently in the lanes of a vector and in its rest, so that a sample's
    draw would depend on its neighbours.
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
    """Draws rectangles as torchvision does for RandomResizedCrop and RandomErasing.

    The first of ten attempts whose sides fit: the area is uniform, the logarithm of the ratio of
    width to height is uniform, and so is the place.

    Args:
        words: int64 ``(n, 22 or more)``.
        areas: smallest and largest share of the image's area.
        ratios: smallest and largest width / height.
        largest: height and width that a rectangle may have.

    Returns:
        int64 ``(n, 4)``: top, left, height and width in pixels; and whether one did fit.
    """
    area = uniform(words[:, :10], *areas) * (height * width)
    ratio = each(math.exp, uniform(words[:, 10:20], math.log(ratios[0]), math.log(ratios[1])))
    heights, widths = whole(np.sqrt(area / ratio)), whole(np.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= largest[0]) & (widths >= 1) & (widths <= largest[1])
    first = (np.arange(len(words)), fits.argmax(axis=1))
    found = fits[first]
    sides = np.stack((heights[first], widths[first]), axis=1) * found[:, None]
    corners = below(words[:, 20:22], np.array([height, width]) - sides + 1)
    return np.concatenate((corners, sides), axis=1), found
