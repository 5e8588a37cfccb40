"""Mixup and CutMix: each sample is mixed with a partner, with its own share."""

import numpy as np
import torch
from torch import Tensor

from darkroom.augment.draws import ONE, Floats, Ints, quotient, rounded, uniform
from darkroom.augment.erase import inside
from darkroom.loading.philox import below


def draw_mixes(words: Ints, height: int, width: int, mixup: float | None, cutmix: float | None) -> Ints:
    """Draw how each sample is mixed: by mixup, by CutMix, or, if both are given, by one of them.

    Mixup: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018). CutMix: Yun et al.,
    "CutMix: Regularization Strategy to Train Strong Classifiers" (ICCV 2019), with the rectangles of
    torchvision's CutMix.

    Args:
        words: int64 ``(n, 4)``.
        mixup: alpha > 0 of the share's distribution Beta(alpha, alpha); None for no mixup.
        cutmix: the same for CutMix, before the rectangle is clipped and rounded to pixels.

    Returns:
        int64 ``(n, 5)``: the sample's share outside of the rectangle, in units of 1 / ONE; top, left,
        height and width of the rectangle that comes from the partner.
    """
    is_cut = np.full(len(words), cutmix is not None)
    if mixup is not None and cutmix is not None:
        is_cut = below(words[:, 0], 2) == 1
    shares = np.full(len(words), ONE)
    rectangles = np.zeros((len(words), 4), dtype=np.int64)
    if mixup is not None:
        shares[~is_cut] = rounded(_beta(words[~is_cut, 1], mixup) * ONE)
    if cutmix is not None:
        size = np.array([height, width])
        sides = 0.5 * np.sqrt(1 - _beta(words[is_cut, 1], cutmix))[:, None] * size
        half = sides.astype(np.int64)
        centre = below(words[is_cut, 2:], size)
        start, stop = np.maximum(centre - half, 0), np.minimum(centre + half, size)
        rectangles[is_cut] = np.concatenate((start, stop - start), axis=1)
    return np.concatenate((shares[:, None], rectangles), axis=1)


def mix_images(images: Tensor, mixes: Tensor, is_cut: bool) -> tuple[Tensor, Tensor]:
    """Mix each image with the next one.

    A share has 16 bits and a level 8, so float32 holds every product and sum exactly.

    Args:
        images: uint8 ``(n + 1, height, width, channels)``.
        mixes: int64 ``(n, 5)``, as ``draw_mixes`` returns.
        is_cut: whether there are rectangles.

    Returns:
        float32 ``(n, height, width, channels)``, 0..255; and float32 ``(n,)``: each image's share, in
        which a rectangle counts by its area.
    """
    num_images, height, width, channels = images[:-1].shape
    shares, rectangles = mixes[:, 0] / ONE, mixes[:, 1:]
    lines = images.reshape(num_images + 1, height, -1).float()
    weights = shares[:, None, None].expand(-1, height, width * channels)
    if is_cut:
        weights = weights.masked_fill(inside(rectangles, images[:-1].shape), 0)
    mixed = torch.lerp(lines[1:], lines[:-1], weights).view(num_images, height, width, channels)
    kept = height * width - rectangles[:, 2] * rectangles[:, 3]
    return mixed, shares * quotient(kept, height * width)


def _beta(words: Ints, alpha: float) -> Floats:
    """Map words to draws from Beta(alpha, alpha), by the inverse of its distribution function."""
    from scipy.special import betaincinv  # 0.2 s to import, and only needed here

    return betaincinv(alpha, alpha, uniform(words))
