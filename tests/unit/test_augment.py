"""Crop and flip against padding, slicing and flipping one sample at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare
from torch import Tensor

from darkroom.data.augment import crop_and_flip, draw_crop_and_flip

torch.set_num_threads(1)


def random_images(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator).to(dtype)


def changed_by_hand(image: Tensor, down: int, right: int, flip: int, padding: int) -> Tensor:
    """Pads (height, width, channels) by its edge, crops it back to size, then flips it."""
    height, width, _ = image.shape
    padded = F.pad(image.permute(2, 0, 1)[None].float(), (padding,) * 4, mode="replicate")[0]
    cropped = padded[
        :, padding + down : padding + down + height, padding + right : padding + right + width
    ]
    return (cropped.flip(2) if flip else cropped).permute(1, 2, 0).to(image.dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 9, 3), (1, 4, 3), (7, 1, 1)])
@pytest.mark.parametrize("padding", [0, 1, 4, 12])
def test_each_image_is_changed_as_by_hand(
    shape: tuple[int, ...], padding: int, dtype: torch.dtype
) -> None:
    images = random_images(50, *shape, dtype=dtype)
    changes = draw_crop_and_flip(3, 1, torch.arange(50), padding, horizontal_flip=True)
    changes[:4, :2] = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * padding  # the corners
    got = crop_and_flip(images, changes)
    assert got.dtype == dtype
    for image, change, result in zip(images, changes.tolist(), got, strict=True):
        assert torch.equal(result, changed_by_hand(image, *change, padding))


@pytest.mark.parametrize("flip", [0, 1])
def test_no_shift_changes_nothing_but_for_the_flip(flip: int) -> None:
    images = random_images(3, 6, 7, 3)
    got = crop_and_flip(images, torch.tensor([[0, 0, flip]] * 3))
    assert torch.equal(got, images.flip(2) if flip else images)
    assert not torch.equal(images.flip(2), images)


def test_images_are_not_changed_in_place() -> None:
    images = random_images(3, 6, 7, 3)
    before = images.clone()
    crop_and_flip(images, torch.tensor([[1, 2, 1]] * 3)).zero_()
    assert torch.equal(images, before)


def test_identical_images_come_out_differently() -> None:
    images = random_images(1, 16, 16, 3).expand(100, -1, -1, -1)
    changes = draw_crop_and_flip(0, 0, torch.arange(100), 4, horizontal_flip=True)
    got = crop_and_flip(images, changes)
    assert len({image.numpy().tobytes() for image in got}) == len(set(map(tuple, changes.tolist()))) > 50


@pytest.mark.parametrize("padding", [1, 4])
def test_every_shift_and_both_sides_are_equally_likely(padding: int) -> None:
    side = 2 * padding + 1
    changes = draw_crop_and_flip(0, 0, torch.arange(50_000), padding, horizontal_flip=True)
    assert changes[:, :2].abs().max() == padding
    assert changes[:, 2].unique().tolist() == [0, 1]
    place = ((changes[:, 0] + padding) * side + changes[:, 1] + padding) * 2 + changes[:, 2]
    assert chisquare(np.bincount(place.numpy(), minlength=2 * side**2)).pvalue > 1e-3


def test_what_is_switched_off_is_not_drawn() -> None:
    ids = torch.arange(1000)
    assert not draw_crop_and_flip(0, 0, ids, 3, horizontal_flip=False)[:, 2].any()
    assert not draw_crop_and_flip(0, 0, ids, 0, horizontal_flip=True)[:, :2].any()
    assert not draw_crop_and_flip(0, 0, ids, 0, horizontal_flip=False).any()


def test_the_draw_is_a_function_of_seed_epoch_and_sample() -> None:
    ids = torch.arange(1000)
    drawn = draw_crop_and_flip(5, 2, ids, 4, horizontal_flip=True)
    assert torch.equal(draw_crop_and_flip(5, 2, ids[300:310], 4, horizontal_flip=True), drawn[300:310])
    for seed, epoch in ((6, 2), (5, 3)):
        assert not torch.equal(draw_crop_and_flip(seed, epoch, ids, 4, horizontal_flip=True), drawn)
