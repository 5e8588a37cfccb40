"""Random crops, flips and affine transforms per sample."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from darkroom.augment.draws import Ints, draw_rectangles, elementwise, rounded, uniform
from darkroom.dataset.resampling import WEIGHT_ONE, num_taps, taps
from darkroom.loading.philox import below

STEP_BITS = 8
STEPS = 1 << STEP_BITS
"""Number of positions that are distinguished between two pixels."""

AFFINE_BITS = 20
AFFINE_ONE = 1 << AFFINE_BITS
"""Unit of the coefficients of an affine transform, which are integers."""


def draw_shifts_and_flips(
    words: Ints,
    height: int,
    width: int,
    crop_padding: int,
    horizontal_flip: bool,
    vertical_flip: bool,
) -> Ints:
    """Draw a crop after padding, and flips.

    Args:
        words: int64 ``(n, 4)``.
        crop_padding: maximum shift in pixels, in each direction.
        horizontal_flip: whether half of the samples are flipped horizontally.
        vertical_flip: whether half of the samples are flipped vertically.

    Returns:
        int64 ``(n, 4)``: shift down and shift right, each -crop_padding..crop_padding; 1 for a
        horizontal flip, else 0; 1 for a vertical flip, else 0.
    """
    shifts = below(words[:, :2], 2 * crop_padding + 1) - crop_padding
    flips = below(words[:, 2:], 2) * np.array([horizontal_flip, vertical_flip])
    return np.concatenate((shifts, flips), axis=1)


def shift_and_flip(images: Tensor, changes: Tensor) -> Tensor:
    """Shift and flip each image; the edge is repeated outside of it.

    This equals padding by replication, cropping back to size, and then flipping.

    Args:
        images: any dtype, ``(n, height, width, channels)``.
        changes: int64 ``(n, 4)``, as ``draw_shifts_and_flips`` returns.

    Returns:
        As ``images``.
    """
    num_images, height, width, channels = images.shape
    rows, columns = shifted_positions(changes, height, width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    rows += torch.arange(num_images, device=images.device)[:, None] * height
    index = ((rows * width)[:, :, None] + columns[:, None, :]).flatten()
    # index_select takes a quarter of the time of indexing with three tensors
    pixels = images.reshape(-1) if channels == 1 else images.reshape(-1, channels)
    return pixels.index_select(0, index).view(images.shape)


def shifted_positions(changes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return which row and column each pixel comes from, outside of the image where it is shifted.

    Args:
        changes: int64 ``(n, 4)``, as ``draw_shifts_and_flips`` returns.

    Returns:
        int64 ``(n, height)`` and ``(n, width)``.
    """
    down, right, horizontal, vertical = changes.unsqueeze(2).unbind(1)  # (n, 1) each
    rows = torch.arange(height, device=changes.device)
    columns = torch.arange(width, device=changes.device)
    rows = torch.where(vertical == 1, height - 1 - rows, rows)
    columns = torch.where(horizontal == 1, width - 1 - columns, columns)
    return rows + down, columns + right


def draw_resized_crops(words: Ints, height: int, width: int, smallest: float) -> Ints:
    """Draw crops like torchvision's RandomResizedCrop, with a ratio between 3/4 and 4/3.

    Args:
        words: int64 ``(n, 24)``.
        smallest: minimum share of the area, 0 < smallest <= 1; the maximum is 1.

    Returns:
        int64 ``(n, 4)``: top, left, height and width in pixels. If no attempt fits, it is the
        largest crop at the centre.
    """
    crops, found = draw_rectangles(
        words, (smallest, 1.0), (3 / 4, 4 / 3), (height, width), height, width
    )
    high, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    centre = np.array([(height - high) // 2, (width - wide) // 2, high, wide])
    return np.where(found[:, None], crops, centre)


def draw_crops(words: Ints, height: int, width: int, size: tuple[int, int]) -> Ints:
    """Draw crops of one size at uniform positions.

    Args:
        words: int64 ``(n, 4)``.
        size: height and width of the crops.

    Returns:
        int64 ``(n, 4)``: top, left, height and width in pixels.
    """
    corners = below(words[:, :2], np.array([height - size[0] + 1, width - size[1] + 1]))
    return np.concatenate((corners, np.broadcast_to(size, corners.shape)), axis=1)


def whole_images(words: Ints, height: int, width: int) -> Ints:
    """Return the crop that is the whole image for each row of ``words``, as ``draw_crops`` does."""
    return np.tile([0, 0, height, width], (len(words), 1))


def resized_crop(images: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a crop of each image, with the antialiased filter of ``dataset/resampling.py``.

    Results may differ from torchvision's by one grey level, because torchvision rounds after each of two
    passes.

    Args:
        images: uint8 ``(n, height, width, channels)``.
        crops: int64 ``(n, 4)``, as ``draw_resized_crops`` returns.
        size: height and width of the result.

    Returns:
        uint8 ``(n, *size, channels)``.
    """
    num_images, height, width, channels = images.shape
    tops, lefts, heights, widths = crops[:, :, None, None].unbind(1)  # (n, 1, 1) each
    first = torch.arange(num_images, device=images.device)[:, None, None]
    lines = images.reshape(num_images * height, width * channels).float()
    lines = _weighted_sums(lines, tops + first * height, heights, height, size[0])
    # whole columns are summed faster than single pixels
    columns = lines.view(num_images, size[0], width, channels).transpose(1, 2)
    columns = columns.reshape(num_images * width, size[0] * channels)
    columns = _weighted_sums(columns, lefts + first * width, widths, width, size[1])
    levels = columns.mul_(1 / WEIGHT_ONE**2).add_(0.5).to(torch.uint8)
    return levels.view(num_images, size[1], size[0], channels).transpose(1, 2).contiguous()


def _weighted_sums(rows: Tensor, starts: Tensor, lengths: Tensor, longest: int, size: int) -> Tensor:
    """Return sums of rows of a table, in units of 1 / WEIGHT_ONE.

    Args:
        rows: float32 ``(num_rows, values)``.
        starts: int64 ``(n, 1, 1)``, the first row of each crop.
        lengths: int64 ``(n, 1, 1)``, the number of its rows, at most ``longest``.
        size: the number of rows of the result per crop.

    Returns:
        float32 ``(n * size, values)``.
    """
    positions = torch.arange(size, device=rows.device)[:, None]
    offsets = torch.arange(num_taps(longest, size), device=rows.device)
    indices, weights = taps(lengths, size, positions, offsets)
    return F.embedding_bag(
        (indices + starts).int().flatten(0, 1),
        rows,
        per_sample_weights=weights.float().flatten(0, 1),
        mode="sum",
    )


def draw_affine(
    words: Ints, height: int, width: int, rotate: float, translate: float, scale: float
) -> Ints:
    """Draw a rotation, a shift by whole pixels and a scaling, like torchvision's RandomAffine.

    Args:
        words: int64 ``(n, 4)``.
        rotate: maximum angle in degrees, 0..180.
        translate: maximum shift as a share of the side, 0..1.
        scale: maximum relative change of size, 0 <= scale < 1.

    Returns:
        int64 ``(n, 4)``: cosine and sine of the angle, both divided by the scaling and in units of
        1 / AFFINE_ONE; shift down and shift right in pixels.
    """
    angles = uniform(words[:, 0], -math.radians(rotate), math.radians(rotate))
    factors = uniform(words[:, 1], 1 - scale, 1 + scale)
    cosines = rounded(elementwise(math.cos, angles) / factors * AFFINE_ONE)
    sines = rounded(elementwise(math.sin, angles) / factors * AFFINE_ONE)
    largest = np.array([height, width]) * translate
    shifts = rounded(uniform(words[:, 2:]) * 2 * largest - largest)
    return np.concatenate((np.stack((cosines, sines), axis=1), shifts), axis=1)


def affine(images: Tensor, changes: Tensor) -> Tensor:
    """Rotate, scale and shift each image around its centre, by bilinear interpolation.

    A positive angle rotates clockwise, as in torchvision's ``affine``. The edge is repeated outside of
    the image. The result differs from exact interpolation, rounded, by at most one grey level.

    Args:
        images: uint8 ``(n, height, width, channels)``.
        changes: int64 ``(n, 4)``, as ``draw_affine`` returns.

    Returns:
        As ``images``.
    """
    _, height, width, _ = images.shape
    rows, columns = affine_positions(changes, height, width)
    return sample_bilinear(
        images, rows.clamp_(0, (height - 1) * STEPS), columns.clamp_(0, (width - 1) * STEPS)
    )


def affine_positions(changes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return where each pixel comes from, also outside of the image.

    Args:
        changes: int64 ``(n, 4)``, as ``draw_affine`` returns.

    Returns:
        Rows and columns, int64 ``(n, height, width)``, in units of 1 / STEPS pixel.
    """
    cosine, sine, down, right = changes.unsqueeze(2).unbind(1)  # (n, 1) each
    # twice the distance from the centre, which is an integer for even sides, too
    y = 2 * torch.arange(height, device=changes.device) - (height - 1) - 2 * down  # (n, height)
    x = 2 * torch.arange(width, device=changes.device) - (width - 1) - 2 * right  # (n, width)
    to_steps = AFFINE_BITS + 1 - STEP_BITS
    half = 1 << (to_steps - 1)
    rows = (cosine * y + (height - 1) * AFFINE_ONE + half)[:, :, None] - (sine * x)[:, None, :]
    columns = (cosine * x + (width - 1) * AFFINE_ONE + half)[:, None, :] + (sine * y)[:, :, None]
    return rows >> to_steps, columns >> to_steps


def sample_bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample each image at positions between its pixels.

    Positions are multiples of 1/256 of a pixel. A weight then has 16 bits and a weighted sum of grey
    levels 24, which float32 holds exactly. The result is therefore the same in any order of the sum,
    with or without fused multiplication, and on any device.

    Args:
        images: uint8 ``(n, height, width, channels)``.
        rows: int64, broadcastable to ``(n, height, width)``, 0..(height - 1) * STEPS.
        columns: like ``rows``, 0..(width - 1) * STEPS.

    Returns:
        As ``images``, rounded to the nearest level, half up.
    """
    num_images, height, width, channels = images.shape
    rows, columns = rows.int(), columns.int()
    above, left = rows >> STEP_BITS, columns >> STEP_BITS
    down, right = (rows & (STEPS - 1)) / STEPS, (columns & (STEPS - 1)) / STEPS  # float32, exact
    first = torch.arange(num_images, device=images.device, dtype=torch.int32)[:, None, None] * height
    upper, lower = (first + above) * width, (first + (above + 1).clamp_(max=height - 1)) * width
    beside = (left + 1).clamp_(max=width - 1)
    index = torch.empty(num_images, height, width, 4, dtype=torch.int32, device=images.device)
    weights = torch.empty(index.shape, device=images.device)
    corners = (
        (upper, left, 1 - down, 1 - right),
        (upper, beside, 1 - down, right),
        (lower, left, down, 1 - right),
        (lower, beside, down, right),
    )
    for corner, (line, column, vertical, horizontal) in enumerate(corners):
        index[..., corner] = line + column
        weights[..., corner] = vertical * horizontal
    # an embedding bag computes weighted sums of rows of a table: here, of four pixels
    sums = F.embedding_bag(
        index.view(-1, 4),
        images.reshape(-1, channels).float(),
        per_sample_weights=weights.view(-1, 4),
        mode="sum",
    )
    return sums.add_(0.5).to(torch.uint8).view(images.shape)
