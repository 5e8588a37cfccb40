"""The geometry of the augmentations for masks: the same changes as of the images, without interpolation.

Each function takes what ``geometry.py`` drew for the images. A pixel of a mask gets the class of the
closest pixel. Where an image shows a repeat of its edge, the mask is void, so that nothing is learnt
from pixels that were never photographed.
"""

import torch
from torch import Tensor

from darkroom.augment.geometry import STEP_BITS, STEPS, affine_positions, shifted_positions
from darkroom.void import VOID


def shift_and_flip_masks(masks: Tensor, changes: Tensor) -> Tensor:
    """Shift and flip each mask like ``shift_and_flip``.

    Args:
        masks: uint8 ``(n, height, width)``, classes or ``VOID``, like in the functions below.
        changes: int64 ``(n, 4)``, as ``draw_shifts_and_flips`` returns.

    Returns:
        As ``masks``.
    """
    rows, columns = shifted_positions(changes, *masks.shape[1:])
    return _picked(masks, rows[:, :, None], columns[:, None, :])


def resized_crop_masks(masks: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a crop of each mask like ``resized_crop``.

    Args:
        crops: int64 ``(n, 4)``: top, left, height and width in pixels.
        size: height and width of the result.

    Returns:
        uint8 ``(n, *size)``.
    """
    tops, lefts, heights, widths = crops[:, :, None].unbind(1)  # (n, 1) each
    rows = tops + nearest(heights, size[0], torch.arange(size[0], device=masks.device))
    columns = lefts + nearest(widths, size[1], torch.arange(size[1], device=masks.device))
    return _picked(masks, rows[:, :, None], columns[:, None, :])


def nearest(lengths: Tensor, size: int, positions: Tensor) -> Tensor:
    """Return the pixel whose centre is closest to that of each position; of two, the second.

    Args:
        lengths: int64, broadcastable to ``positions``: the number of pixels to resize.
        size: the number of pixels of the result.
        positions: int64, 0..size - 1.

    Returns:
        int64, 0..lengths - 1.
    """
    return (2 * positions + 1) * lengths // (2 * size)


def affine_masks(masks: Tensor, changes: Tensor) -> Tensor:
    """Rotate, scale and shift each mask like ``affine``.

    A pixel gets the class of the pixel that has the largest weight in the image's interpolation.

    Args:
        changes: int64 ``(n, 4)``, as ``draw_affine`` returns.

    Returns:
        As ``masks``.
    """
    rows, columns = affine_positions(changes, *masks.shape[1:])
    half = STEPS // 2
    return _picked(masks, (rows + half) >> STEP_BITS, (columns + half) >> STEP_BITS)


def _picked(masks: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels at ``rows`` and ``columns``, which broadcast; void where they are outside."""
    num_images, height, width = masks.shape
    first = torch.arange(num_images, device=masks.device)[:, None, None] * height
    index = (first + rows.clamp(0, height - 1)) * width + columns.clamp(0, width - 1)
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    picked = masks.reshape(-1).index_select(0, index.flatten()).view(index.shape)
    return torch.where(is_inside, picked, VOID)
