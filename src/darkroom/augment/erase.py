"""Random erasing of a rectangle per sample, like torchvision's RandomErasing."""

from typing import Literal

import torch
from torch import Tensor

from darkroom.augment.draws import Ints, draw_rectangles, uniform


def draw_erasures(words: Ints, height: int, width: int, probability: float) -> Ints:
    """Draw rectangles of 0.02 to 0.33 of the area, with height / width between 0.3 and 3.3.

    A rectangle is at least one pixel high and wide, and never as high or wide as the image.

    Args:
        words: int64 ``(n, 24)``.
        probability: of erasing anything.

    Returns:
        int64 ``(n, 4)``: top, left, height and width in pixels; zeros if nothing is erased.
    """
    rectangles, found = draw_rectangles(
        words, (0.02, 0.33), (1 / 3.3, 1 / 0.3), (height - 1, width - 1), height, width
    )
    is_erased = found & (uniform(words[:, 22]) < probability)
    return rectangles * is_erased[:, None]


def erase(images: Tensor, rectangles: Tensor, fill: int | Literal["mean"]) -> Tensor:
    """Fill a rectangle of each image.

    Args:
        images: uint8 ``(n, height, width, channels)``.
        rectangles: int64 ``(n, 4)``, as ``draw_erasures`` returns.
        fill: a level 0..255, or the mean colour of the image, rounded.

    Returns:
        As ``images``.
    """
    num_images, height, width, channels = images.shape
    colours = images.new_full((num_images, 1, channels), 0 if fill == "mean" else fill)
    if fill == "mean":
        pixels = height * width
        totals = images.reshape(num_images, pixels, channels).sum(1, keepdim=True)
        colours = ((2 * totals + pixels) // (2 * pixels)).to(torch.uint8)
    lines = images.reshape(num_images, height, width * channels)
    filled = torch.where(inside(rectangles, images.shape), colours.repeat(1, 1, width), lines)
    return filled.view(images.shape)


def inside(rectangles: Tensor, shape: torch.Size) -> Tensor:
    """Return which values lie in a rectangle.

    Args:
        rectangles: int64 ``(n, 4)``: top, left, height and width in pixels.
        shape: ``(n, height, width, channels)``.

    Returns:
        bool ``(n, height, width * channels)``.
    """
    _, height, width, channels = shape
    top, left, high, wide = rectangles[:, :, None].unbind(1)  # (n, 1) each
    rows = torch.arange(height, device=rectangles.device) - top
    columns = torch.arange(width, device=rectangles.device).repeat_interleave(channels) - left
    is_in_rows, is_in_columns = (rows >= 0) & (rows < high), (columns >= 0) & (columns < wide)
    return is_in_rows[:, :, None] & is_in_columns[:, None, :]
