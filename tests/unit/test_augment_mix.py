"""Mixup and CutMix against torchvision's blend and rectangle, and scipy's Beta distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, binomtest, chisquare, kstest
from torch import Tensor

from darkroom.augment.draws import MIX, ONE, Ints, draw_words
from darkroom.augment.mix import draw_mixes, mix_images

torch.set_num_threads(1)


def random_images(count: int, height: int = 12, width: int = 9, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def draw(count: int, side: int, mixup: float | None, cutmix: float | None) -> Ints:
    return draw_mixes(draw_words(0, 0, torch.arange(count), MIX), side, side, mixup, cutmix)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_shares_are_of_the_beta_distribution(alpha: float) -> None:
    shares = draw(20_000, 32, alpha, None)[:, 0]
    edges = np.array([0, 1, 100, 1000, *range(5000, 65_000, 5000), ONE - 1000, ONE - 100, ONE, ONE + 1])
    assert shares.min() >= 0
    counts = np.histogram(shares, edges)[0]

    def pvalue(alpha: float) -> float:
        # a share is a draw rounded to the nearest whole number, in units of 1 / ONE
        chances = np.diff(beta(alpha, alpha).cdf((edges - 0.5) / ONE))
        filled = chances > 1e-4
        return chisquare(
            counts[filled], chances[filled] / chances[filled].sum() * counts[filled].sum()
        ).pvalue

    assert pvalue(alpha) > 1e-3
    assert pvalue(1.2 * alpha) < 1e-3
    assert not draw(100, 32, alpha, None)[:, 1:].any()


def test_cutmix_rectangles_are_of_the_beta_distribution() -> None:
    side = 4096
    share, top, left, height, width = draw(20_000, side, None, 1.0).T
    assert (share == ONE).all()
    assert ((top >= 0) & (left >= 0) & (top + height <= side) & (left + width <= side)).all()
    inner = (top > 0) & (left > 0) & (top + height < side) & (left + width < side)
    assert (height[inner] == width[inner]).all()
    assert inner.mean() == pytest.approx(1 / 6, abs=0.01)

    def cdf(half: np.ndarray) -> np.ndarray:
        # the area 4 half^2 is uniform, and not clipped with the chance (1 - 2 half)^2
        return 6 * (4 * half**2 - 32 / 3 * half**3 + 8 * half**4)

    assert kstest(height[inner] / (2 * side), cdf).pvalue > 1e-3
    centres = np.concatenate((top + height / 2, left + width / 2))[np.tile(inner & (height < 99), 2)]
    assert kstest(centres / side, "uniform").pvalue > 1e-3


def test_both_are_chosen_half_and_half() -> None:
    drawn = draw(20_000, 4096, 1.0, 1.0)
    is_cut = drawn[:, 3] > 0
    assert binomtest(int(is_cut.sum()), 20_000, 0.5).pvalue > 1e-3
    assert (drawn[is_cut, 0] == ONE).all()
    assert not drawn[~is_cut, 1:].any()
    assert kstest(drawn[~is_cut, 0] / ONE, "uniform").pvalue > 1e-3
    assert chisquare(np.bincount(is_cut[1:] * 2 + is_cut[:-1], minlength=4)).pvalue > 1e-3


def test_mixup_blends_each_image_with_the_next() -> None:
    images = random_images(41)
    mixes = torch.from_numpy(draw(40, 9, 1.0, None))
    mixed, shares = mix_images(images, mixes, is_cut=False)
    assert mixed.dtype == shares.dtype == torch.float32
    own = shares.double()[:, None, None, None]
    assert torch.equal(mixed.double(), images[:-1] * own + images[1:] * (1 - own))  # to the last bit
    assert not torch.equal(mixed.double(), images[1:] * own + images[:-1] * (1 - own))


@pytest.mark.parametrize("channels", [1, 3])
def test_cutmix_pastes_the_next_image_and_counts_its_pixels(channels: int) -> None:
    own = torch.zeros(1, 12, 9, channels, dtype=torch.uint8)
    images = torch.cat((own, own + 255, own)).repeat(30, 1, 1, 1)[:41]
    words = draw_words(0, 0, torch.arange(40), MIX)
    mixes = torch.from_numpy(draw_mixes(words, 12, 9, None, 1.0))
    mixed, shares = mix_images(images, mixes, is_cut=True)
    for number, (_, top, left, height, width) in enumerate(mixes.tolist()):
        wanted = images[number].float()
        wanted[top : top + height, left : left + width] = images[number + 1][0, 0, 0].float()
        assert torch.equal(mixed[number], wanted)
        is_own = torch.ones(12, 9)
        is_own[top : top + height, left : left + width] = 0
        assert shares[number] == is_own.sum().div(12 * 9)
    assert shares.unique().numel() > 20


def test_cutmix_has_torchvisions_rectangles() -> None:
    words = draw_words(3, 0, torch.arange(200), MIX)
    drawn = draw_mixes(words, 20, 30, None, 0.7)
    for row, (_, top, left, height, width) in zip(words.tolist(), drawn.tolist(), strict=True):
        share = beta(0.7, 0.7).ppf(row[1] / 2**32)
        y, x = row[2] * 20 >> 32, row[3] * 30 >> 32
        half_height, half_width = (int(0.5 * np.sqrt(1 - share) * side) for side in (20, 30))
        assert (top, left) == (max(y - half_height, 0), max(x - half_width, 0))
        assert (top + height, left + width) == (min(y + half_height, 20), min(x + half_width, 30))
