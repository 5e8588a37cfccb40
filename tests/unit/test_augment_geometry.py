"""Crops, flips and affine changes against torchvision's, one image at a time."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare, kstest
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from darkroom.augment.draws import AFFINE, RESIZED_CROP, SHIFT_AND_FLIP, Ints, draw_words
from darkroom.augment.geometry import (
    AFFINE_ONE,
    affine,
    draw_affine,
    draw_resized_crops,
    draw_shifts_and_flips,
    resized_crop,
    sample_bilinear,
    shift_and_flip,
)
from darkroom.loading.philox import below, words

torch.set_num_threads(1)

SHAPES = [(8, 8, 1), (5, 9, 3), (1, 4, 3), (7, 1, 1), (32, 21, 3)]


def random_images(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Noise, whose neighbouring pixels differ as much as pixels can."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator).to(dtype)


def words_of(num_samples: int, blocks: range, seed: int = 0) -> Ints:
    return draw_words(seed, 0, torch.arange(num_samples), blocks)


def draw_changes(num_samples: int, padding: int, mirror: bool = True, turn: bool = True) -> Tensor:
    drawn = words_of(num_samples, SHIFT_AND_FLIP)
    return torch.from_numpy(draw_shifts_and_flips(drawn, 1, 1, padding, mirror, turn))


def padded_image(image: Tensor, padding: int) -> Tensor:
    """uint8 (height, width, channels) -> (channels, height + 2 padding, width + 2 padding)."""
    edge = F.pad(image.permute(2, 0, 1)[None].double(), (padding,) * 4, mode="replicate")[0]
    return edge.to(image.dtype)


# shifts and flips


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 4, 12])
def test_shifts_and_flips_are_torchvisions(
    shape: tuple[int, ...], padding: int, dtype: torch.dtype
) -> None:
    height, width, _ = shape
    images = random_images(30, *shape, dtype=dtype)
    changes = draw_changes(30, padding)
    changes[:4, :2] = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * padding  # the corners
    got = shift_and_flip(images, changes)
    assert got.dtype == dtype
    for image, (down, right, mirror, turn), result in zip(images, changes.tolist(), got, strict=True):
        wanted = TF.crop(padded_image(image, padding), padding + down, padding + right, height, width)
        wanted = TF.horizontal_flip(wanted) if mirror else wanted
        wanted = TF.vertical_flip(wanted) if turn else wanted
        assert torch.equal(result.permute(2, 0, 1), wanted)


def test_no_shift_and_no_flip_change_nothing() -> None:
    images = random_images(3, 6, 7, 3)
    assert torch.equal(shift_and_flip(images, torch.tensor([[0, 0, 0, 0]] * 3)), images)
    for one in range(4):
        assert not torch.equal(shift_and_flip(images, torch.eye(4).long()[[one] * 3]), images)


def test_images_that_do_not_lie_in_one_piece_are_read_rightly() -> None:
    images = random_images(20, 3, 6, 7).permute(0, 2, 3, 1)[::2]
    changes = draw_changes(10, 2)
    assert torch.equal(shift_and_flip(images, changes), shift_and_flip(images.contiguous(), changes))


def test_images_are_not_changed_in_place() -> None:
    images = random_images(3, 6, 7, 3)
    before = images.clone()
    shift_and_flip(images, torch.tensor([[1, 2, 1, 1]] * 3)).zero_()
    assert torch.equal(images, before)


def test_identical_images_come_out_differently() -> None:
    images = random_images(1, 16, 16, 3).expand(100, -1, -1, -1)
    changes = draw_changes(100, 4)
    got = shift_and_flip(images, changes)
    assert len({image.numpy().tobytes() for image in got}) == len(set(map(tuple, changes.tolist()))) > 50


@pytest.mark.parametrize("padding", [1, 4])
def test_every_shift_and_flip_is_equally_likely(padding: int) -> None:
    side = 2 * padding + 1
    down, right, mirror, turn = draw_changes(50_000, padding).unbind(1)
    place = (((down + padding) * side + right + padding) * 2 + mirror) * 2 + turn
    assert place.min() == 0
    assert place.max() == 4 * side**2 - 1
    assert chisquare(np.bincount(place, minlength=4 * side**2)).pvalue > 1e-3


def test_what_is_switched_off_is_not_drawn() -> None:
    assert not draw_changes(1000, 3, mirror=False)[:, 2].any()
    assert not draw_changes(1000, 3, turn=False)[:, 3].any()
    assert not draw_changes(1000, 0)[:, :2].any()
    assert torch.equal(draw_changes(1000, 3, turn=False)[:, :3], draw_changes(1000, 3)[:, :3])


def test_committed_results_hold() -> None:
    # the words and their use from before there were other changes
    ids = torch.arange(1000)
    drawn = words(7, 2, 3, ids)
    changes = draw_shifts_and_flips(draw_words(7, 3, ids, SHIFT_AND_FLIP), 1, 1, 4, True, False)
    assert np.array_equal(changes[:, :2], below(drawn[:, :2], 9) - 4)
    assert np.array_equal(changes[:, 2], drawn[:, 2] >> 31)


# resized crops


@pytest.mark.parametrize("shape", SHAPES)
def test_resized_crops_are_torchvisions(shape: tuple[int, ...]) -> None:
    height, width, _ = shape
    images = random_images(30, *shape)
    crops = torch.from_numpy(draw_resized_crops(words_of(30, RESIZED_CROP), height, width, 0.08))
    got = resized_crop(images, crops, (height, width))
    assert got.dtype == torch.uint8
    for image, crop, result in zip(images, crops.tolist(), got, strict=True):
        planes = image.permute(2, 0, 1)
        wanted = TF.resized_crop(planes, *crop, [height, width], antialias=True)
        # torchvision rounds after each of two passes, so it may go two ways from the exact value
        assert (result.permute(2, 0, 1).int() - wanted.int()).abs().max() <= 1
        exact = TF.resized_crop(planes.double(), *crop, [height, width], antialias=False)
        assert (result.permute(2, 0, 1) - exact).abs().max() < 1.5


def test_a_crop_of_the_whole_changes_nothing_and_a_smaller_one_does() -> None:
    images = random_images(1, 9, 12, 3)
    assert torch.equal(resized_crop(images, torch.tensor([[0, 0, 9, 12]]), (9, 12)), images)
    assert not torch.equal(resized_crop(images, torch.tensor([[0, 0, 8, 12]]), (9, 12)), images)


def test_nothing_from_outside_of_the_crop_comes_in() -> None:
    images = random_images(1, 16, 16, 3)
    crop = torch.tensor([[3, 4, 7, 8]])
    other = torch.zeros_like(images)
    other[:, 3:10, 4:12] = images[:, 3:10, 4:12]
    assert torch.equal(resized_crop(images, crop, (16, 16)), resized_crop(other, crop, (16, 16)))
    other[:, 3] = 0
    assert not torch.equal(resized_crop(images, crop, (16, 16)), resized_crop(other, crop, (16, 16)))


def test_areas_ratios_and_places_of_resized_crops() -> None:
    side, smallest = 4096, 0.08  # so large that rounding to pixels does not show
    drawn = draw_resized_crops(words_of(20_000, RESIZED_CROP), side, side, smallest)
    top, left, height, width = drawn.T
    assert ((top >= 0) & (left >= 0) & (top + height <= side) & (left + width <= side)).all()
    area, ratio = height * width / side**2, width / height
    assert (ratio >= 0.749).all()
    assert (ratio <= 1.334).all()
    # up to 3/4 of the area every ratio fits, so there both are uniform
    fits = area < 0.75
    assert kstest(area[fits], "uniform", (smallest, 0.75 - smallest)).pvalue > 1e-3
    logs = np.log(ratio[fits])
    assert kstest(logs, "uniform", (math.log(0.75), 2 * math.log(4 / 3))).pvalue > 1e-3
    assert kstest((top / (side - height + 1))[fits], "uniform").pvalue > 1e-3
    assert kstest((left / (side - width + 1))[fits], "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "centre"),
    [(32, 32, (0, 0, 32, 32)), (30, 90, (0, 25, 30, 40)), (90, 30, (25, 0, 40, 30))],
)
def test_where_no_attempt_fits_the_crop_is_the_largest_at_the_centre(
    height: int, width: int, centre: tuple[int, ...]
) -> None:
    drawn = draw_resized_crops(words_of(500, RESIZED_CROP), height, width, 1.0)
    assert centre in set(map(tuple, drawn.tolist()))
    if height != width:
        assert len({*map(tuple, drawn.tolist())}) == 1


# affine changes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strengths", [(180, 0, 0), (0, 1, 0), (0, 0, 0.6), (30, 0.2, 0.3)])
def test_affine_changes_are_torchvisions(
    shape: tuple[int, ...], strengths: tuple[float, float, float]
) -> None:
    height, width, _ = shape
    images = random_images(10, *shape)
    changes = torch.from_numpy(draw_affine(words_of(10, AFFINE), height, width, *strengths))
    got = affine(images, changes)
    assert got.dtype == torch.uint8
    padding = 3 * max(height, width)  # no change looks farther
    for image, (cosine, sine, down, right), result in zip(images, changes.tolist(), got, strict=True):
        wanted = TF.affine(
            padded_image(image, padding),
            angle=math.degrees(math.atan2(sine, cosine)),
            translate=[right, down],
            scale=AFFINE_ONE / math.hypot(cosine, sine),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        wanted = TF.crop(wanted, padding, padding, height, width)
        # places in whole 256ths of a pixel, and other places of torchvision's float32
        assert (result.permute(2, 0, 1).int() - wanted.int()).abs().max() <= 1


def test_quarter_turns_are_exact() -> None:
    images = random_images(4, 9, 9, 3)
    turns = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, -1, 0, 0]])
    got = affine(images, turns * torch.tensor([AFFINE_ONE, AFFINE_ONE, 1, 1]))
    for number, (image, result) in enumerate(zip(images, got, strict=True)):
        assert torch.equal(result, image.rot90(-number))  # clockwise
        assert not torch.equal(result, image.rot90(1 - number))


def test_angles_sizes_and_shifts_are_uniform() -> None:
    side, count = 10_000, 20_000
    drawn = draw_affine(words_of(count, AFFINE), side, side, 40, 0.25, 0.5)
    cosine, sine, down, right = drawn.T
    assert kstest(np.degrees(np.arctan2(sine, cosine)), "uniform", (-40, 80)).pvalue > 1e-3
    assert kstest(AFFINE_ONE / np.hypot(cosine, sine), "uniform", (0.5, 1)).pvalue > 1e-3
    assert kstest(down, "uniform", (-2500, 5000)).pvalue > 1e-3
    assert kstest(right, "uniform", (-2500, 5000)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.05


@pytest.mark.parametrize("part", range(3))
def test_each_part_of_an_affine_change_stands_alone(part: int) -> None:
    strengths = [40, 0.25, 0.5]
    alone = [strength if number == part else 0 for number, strength in enumerate(strengths)]
    cosine, sine, down, right = draw_affine(words_of(100, AFFINE), 32, 32, *alone).T
    assert np.any(sine) == (part == 0)
    assert np.any([down, right]) == (part == 1)
    assert np.any(np.abs(np.hypot(cosine, sine) - AFFINE_ONE) > 1) == (part == 2)


# bilinear sampling


def test_sums_of_weights_are_exact() -> None:
    images = torch.full((1, 5, 5, 3), 255, dtype=torch.uint8)
    rows = torch.arange(4 * 256 + 1)[:25].view(1, 5, 5) * 41
    for shift in range(20):
        got = sample_bilinear(images, rows.clamp(max=1024), (rows + shift).clamp(max=1024))
        assert (got == 255).all()
