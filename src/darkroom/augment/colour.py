"""Random colour changes per sample, like torchvision's ColorJitter in a fixed order."""

import numpy as np
import torch
from torch import Tensor

from darkroom.augment.draws import ONE, Ints, quotient, rounded, uniform

# Grey is red * 0.2989 + green * 0.587 + blue * 0.114 as in torchvision. The weights are rounded to 16
# bits, so that float32 holds every sum exactly.
GREY_WEIGHTS = (19589 / ONE, 38470 / ONE, 7471 / ONE)

Strengths = tuple[float, float, float, float]
"""Strengths of brightness, contrast, saturation (each at least 0) and hue (0..0.5)."""


def draw_jitter(words: Ints, height: int, width: int, strengths: Strengths) -> Ints:
    """Draw factors of brightness, contrast and saturation, and a rotation of the hue.

    Args:
        words: int64 ``(n, 4)``.

    Returns:
        int64 ``(n, 4)`` in units of 1 / ONE: factors in max(0, 1 - strength)..1 + strength, and a
        fraction of a full rotation in -hue..hue.
    """
    lowest = [max(0.0, 1 - strength) for strength in strengths[:3]] + [-strengths[3]]
    highest = [1 + strength for strength in strengths[:3]] + [strengths[3]]
    return rounded(
        np.stack([uniform(*part) for part in zip(words.T, lowest, highest, strict=True)], 1) * ONE
    )


def jitter(images: Tensor, changes: Tensor, strengths: Strengths) -> Tensor:
    """Change the brightness, contrast, saturation and hue of each image, always in this order.

    torchvision draws a new order for each call.

    Args:
        images: uint8 ``(n, height, width, channels)``; saturation and hue do not apply to grey images.
        changes: int64 ``(n, 4)``, as ``draw_jitter`` returns.

    Returns:
        As ``images``.
    """
    num_images, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2).reshape(num_images, channels, -1).float()
    parts = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    for part, strength, change in zip(parts, strengths, (changes / ONE).unbind(1), strict=True):
        if strength > 0 and (channels == 3 or part in (adjust_brightness, adjust_contrast)):
            planes = part(planes, change[:, None, None])
    changed = planes.to(torch.uint8).view(num_images, channels, height, width)
    return changed.permute(0, 2, 3, 1).contiguous()


def adjust_brightness(planes: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor, exactly like torchvision.

    Args:
        planes: float32 ``(n, channels, pixels)``, whole numbers 0..255.
        factors: float32 ``(n, 1, 1)``.

    Returns:
        As ``planes``.
    """
    return (planes * factors).clamp_(0, 255).floor_()


def adjust_contrast(planes: Tensor, factors: Tensor) -> Tensor:
    """Move each image away from, or towards, its mean grey level; see ``adjust_brightness``.

    For factors up to 2, the result differs from torchvision's by at most one level.
    """
    grey = planes if planes.shape[1] == 1 else _grey(planes)
    # an integer sum does not depend on the order
    mean = quotient(grey.sum((1, 2), dtype=torch.int64), grey.shape[2])[:, None, None]
    return (planes * factors + mean * (1 - factors)).clamp_(0, 255).floor_()


def adjust_saturation(planes: Tensor, factors: Tensor) -> Tensor:
    """Move each pixel away from, or towards, its grey level; see ``adjust_brightness``. RGB only.

    For factors up to 2, the result differs from torchvision's by at most one level.
    """
    return (planes * factors + _grey(planes) * (1 - factors)).clamp_(0, 255).floor_()


def adjust_hue(planes: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue by ``turns`` of a full circle; see ``adjust_brightness``. RGB only.

    Computed in HSV like torchvision's, but rounded to the nearest level: the results differ by at most
    one level.
    """
    red, green, blue = planes.unbind(1)  # (n, pixels) each
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = chroma.clamp(min=1)  # if chroma is 0, the hue has no effect
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )  # in sixths of a circle, -1..5
    hue += turns[:, :, 0] * 6
    changed = []
    for start in (5, 3, 1):
        place = hue + start
        place -= (place * (1 / 6)).floor_() * 6
        share = torch.minimum(place, 4 - place).clamp_(0, 1)
        changed.append((value - chroma * share + 0.5).floor_())
    return torch.stack(changed, dim=1)


def _grey(planes: Tensor) -> Tensor:
    """float32 ``(n, 3, pixels)`` -> ``(n, 1, pixels)``, rounded down."""
    red, green, blue = (
        part * weight for part, weight in zip(planes.unbind(1), GREY_WEIGHTS, strict=True)
    )
    return (red + green + blue).floor_()[:, None]
