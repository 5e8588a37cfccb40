"""Random changes to a batch, each sample with parameters of its own, drawn without state."""

import torch
from torch import Tensor

from darkroom.data.philox import below, words

STREAM = 2


def draw_crop_and_flip(
    seed: int, epoch: int, sample_ids: Tensor, crop_padding: int, horizontal_flip: bool
) -> Tensor:
    """Draws the changes of an epoch.

    Args:
        sample_ids: int64 ``(n,)``.
        crop_padding: largest shift in pixels, in each direction.
        horizontal_flip: whether every other sample is mirrored.

    Returns:
        int64 ``(n, 3)``: shift down, shift right (each -crop_padding..crop_padding), and 1 where
        the sample is mirrored.
    """
    drawn = words(seed, STREAM, epoch, sample_ids)
    shifts = below(drawn[:, :2], 2 * crop_padding + 1) - crop_padding
    flips = below(drawn[:, 2:3], 2) * int(horizontal_flip)
    return torch.cat((shifts, flips), dim=1)


def crop_and_flip(images: Tensor, changes: Tensor) -> Tensor:
    """Shifts and mirrors each image; what comes in from outside repeats the edge.

    The same as padding by replication, cropping back to size, and then flipping.

    Args:
        images: any dtype, ``(n, height, width, channels)``.
        changes: int64 ``(n, 3)``, as ``draw_crop_and_flip`` returns.

    Returns:
        As ``images``.
    """
    num_images, height, width, _ = images.shape
    down, right, flip = changes.unsqueeze(2).unbind(1)  # (n, 1) each
    rows = (torch.arange(height, device=images.device) + down).clamp(0, height - 1)  # (n, height)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flip == 1, width - 1 - columns, columns)
    columns = (columns + right).clamp(0, width - 1)  # (n, width)
    sample = torch.arange(num_images, device=images.device)
    return images[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
