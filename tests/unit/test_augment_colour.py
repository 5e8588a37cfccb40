"""Changes of colour and erased rectangles against torchvision's, one image at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from darkroom.augment.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    draw_jitter,
    jitter,
)
from darkroom.augment.draws import COLOUR, ERASE, ONE, draw_words
from darkroom.augment.erase import draw_erasures, erase

torch.set_num_threads(1)


def some_images(kind: str, count: int = 20, side: int = 32) -> Tensor:
    """uint8 (count, side, side, channels)."""
    generator = torch.Generator().manual_seed(0)
    if kind == "photographs":
        photograph = torch.from_numpy(load_sample_images().images[1].copy())
        corners = torch.randint(0, 427 - side, (count, 2), generator=generator).tolist()
        return torch.stack([photograph[y : y + side, x : x + side] for y, x in corners])
    if kind == "corners":  # every combination of the levels where HSV has its edges
        levels = torch.tensor([0, 1, 127, 128, 254, 255], dtype=torch.uint8)
        return torch.cartesian_prod(levels, levels, levels).view(1, 12, 18, 3).expand(count, -1, -1, -1)
    channels = {"noise": 3, "grey": 1}[kind]
    shape = (count, side, side, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


ADJUSTMENTS = [
    (adjust_brightness, TF.adjust_brightness, 0, (0, 2.5), 0.0),
    # float32 sums in another order, cut off: one level where the sum is next to a whole number
    (adjust_contrast, TF.adjust_contrast, 1, (0, 2), 0.01),
    (adjust_saturation, TF.adjust_saturation, 1, (0, 2), 0.01),
    # torchvision cuts off value * 255.999 / 255 where this rounds
    (adjust_hue, TF.adjust_hue, 1, (-0.5, 0.5), 0.2),
]


@pytest.mark.parametrize("kind", ["photographs", "corners", "noise", "grey"])
@pytest.mark.parametrize(("adjust", "torchvisions", "levels", "limits", "share"), ADJUSTMENTS)
def test_adjustments_are_torchvisions(
    adjust: Callable[[Tensor, Tensor], Tensor],
    torchvisions: Callable[[Tensor, float], Tensor],
    levels: int,
    limits: tuple[float, float],
    share: float,
    kind: str,
) -> None:
    images = some_images(kind)
    count, height, width, channels = images.shape
    if channels == 1 and adjust in (adjust_saturation, adjust_hue):
        pytest.skip("grey images have neither hue nor saturation")
    factors = torch.linspace(*limits, count)
    planes = images.permute(0, 3, 1, 2).reshape(count, channels, -1).float()
    got = adjust(planes, factors[:, None, None]).view(count, channels, height, width)
    wanted = torch.stack(
        [
            torchvisions(image.permute(2, 0, 1), f)
            for image, f in zip(images, factors.tolist(), strict=True)
        ]
    )
    difference = (got - wanted.float()).abs()
    assert difference.max() <= levels
    assert kind == "corners" or (difference > 0).float().mean() <= share
    assert not torch.equal(got, planes.view(got.shape))


def test_parts_of_jitter_follow_one_another() -> None:
    images = some_images("photographs")
    strengths = (0.4, 0.3, 0.5, 0.2)
    changes = torch.from_numpy(draw_jitter(draw_words(0, 0, torch.arange(20), COLOUR), 1, 1, strengths))
    planes = images.permute(0, 3, 1, 2).flatten(2).float()
    for (adjust, *_), factors in zip(ADJUSTMENTS, (changes / ONE).unbind(1), strict=True):
        planes = adjust(planes, factors[:, None, None])
    got = jitter(images, changes, strengths)
    assert got.dtype == torch.uint8
    assert torch.equal(got.permute(0, 3, 1, 2).flatten(2).float(), planes)
    assert not torch.equal(jitter(images, changes, (0.4, 0.3, 0.5, 0)), got)


def test_grey_images_have_no_saturation_and_no_hue() -> None:
    images = some_images("grey")
    changes = torch.tensor([[ONE // 2] * 4] * 20)
    assert torch.equal(jitter(images, changes, (0, 0, 1, 0.5)), images)
    assert not torch.equal(jitter(images, changes, (1, 0, 1, 0.5)), images)


def test_factors_are_uniform() -> None:
    drawn = draw_jitter(draw_words(0, 0, torch.arange(20_000), COLOUR), 1, 1, (0.4, 1.5, 0.2, 0.1)) / ONE
    limits = [(0.6, 1.4), (0, 2.5), (0.8, 1.2), (-0.1, 0.1)]
    for factors, (low, high) in zip(drawn.T, limits, strict=True):
        assert kstest(factors, "uniform", (low, high - low)).pvalue > 1e-3
        assert kstest(factors, "uniform", (low, (high - low) * 1.1)).pvalue < 1e-3
    assert abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.05


# erased rectangles


@pytest.mark.parametrize("kind", ["photographs", "grey"])
@pytest.mark.parametrize("fill", ["mean", 0, 200])
def test_erasing_is_torchvisions(kind: str, fill: int | str) -> None:
    images = some_images(kind)
    words = draw_words(0, 0, torch.arange(20), ERASE)
    boxes = torch.from_numpy(draw_erasures(words, 32, 32, 0.8))
    got = erase(images, boxes, fill)
    assert 0 < (boxes[:, 2] == 0).sum() < 20
    for image, (top, left, height, width), result in zip(images, boxes.tolist(), got, strict=True):
        planes = image.permute(2, 0, 1)
        value = torch.tensor([[[fill]]], dtype=torch.uint8) if isinstance(fill, int) else None
        if value is None:
            value = (planes.double().mean((1, 2), keepdim=True) + 0.5).floor().to(torch.uint8)
        wanted = TF.erase(planes, top, left, height, width, value)
        assert torch.equal(result.permute(2, 0, 1), wanted)
        assert torch.equal(wanted, planes) == (height == 0)


def test_areas_ratios_and_places_of_what_is_erased() -> None:
    side, count = 4096, 20_000
    drawn = draw_erasures(draw_words(0, 0, torch.arange(count), ERASE), side, side, 0.7)
    is_erased = drawn[:, 2] > 0
    assert binomtest(int(is_erased.sum()), count, 0.7).pvalue > 1e-3
    top, left, height, width = drawn[is_erased].T
    assert ((height < side) & (width < side) & (top + height <= side) & (left + width <= side)).all()
    area, logs = height * width / side**2, np.log(height / width)
    fits = area < 0.29  # where every ratio fits
    assert kstest(area[fits], "uniform", (0.02, 0.27)).pvalue > 1e-3
    assert kstest(logs[fits], "uniform", (np.log(0.3), np.log(3.3 / 0.3))).pvalue > 1e-3
    assert kstest((top / (side - height + 1))[fits], "uniform").pvalue > 1e-3
    assert kstest((left / (side - width + 1))[fits], "uniform").pvalue > 1e-3


def test_an_image_of_one_pixel_has_nothing_to_erase() -> None:
    words = draw_words(0, 0, torch.arange(50), ERASE)
    assert not draw_erasures(words, 1, 1, 1.0).any()
    assert draw_erasures(words, 3, 3, 1.0).any()
