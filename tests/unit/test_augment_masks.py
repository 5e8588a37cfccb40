"""Masks move exactly like their images, are never interpolated, and are void outside of the image."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import augment_options
from torch import Tensor

from darkroom.augment.geometry import AFFINE_ONE, affine, shift_and_flip
from darkroom.augment.masks import affine_masks, resized_crop_masks, shift_and_flip_masks
from darkroom.augment.pipeline import Augmentation
from darkroom.void import VOID

IDS = torch.tensor([7, 0, 31, 2**32 - 1, 4, 5])
GEOMETRY: list[dict[str, Any]] = [
    {"crop_padding": 5},
    {"horizontal_flip": True, "vertical_flip": True},
    {"resized_crop": 0.3},
    {"rotate": 40},
    {"translate": 0.3},
    {"scale": 0.4},
    {"crop_padding": 3, "horizontal_flip": True, "rotate": 20, "scale": 0.1},
]
COLOURS: list[dict[str, Any]] = [
    {"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 0.3}, {"erase": 0.9},
]  # fmt: skip


def random_masks(height: int = 14, width: int = 18) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(5, (len(IDS), height, width), generator=generator, dtype=torch.uint8)


def augmentation(seed: int = 1, **options: Any) -> Augmentation:
    return Augmentation(augment_options(**options), seed)


def test_shifts_and_flips_equal_padding_with_void() -> None:
    masks = random_masks()
    changes = torch.tensor(
        [[0, 0, 0, 0], [2, -3, 0, 0], [-14, 18, 1, 0], [1, 1, 1, 1], [0, 5, 0, 1], [-4, 0, 1, 0]]
    )
    found = shift_and_flip_masks(masks, changes)
    for mask, (down, right, horizontal, vertical), result in zip(
        masks.numpy(), changes.tolist(), found.numpy(), strict=True
    ):
        padded = np.pad(mask, 18, constant_values=VOID)
        expected = padded[18 + down : 32 + down, 18 + right : 36 + right]
        expected = expected[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        assert (result == expected).all()
    images = shift_and_flip(masks[..., None], changes)[..., 0]
    assert torch.equal(images[found != VOID], found[found != VOID])


@pytest.mark.parametrize("size", [(7, 9), (14, 18), (30, 23)])
def test_resized_crops_are_torchs_nearest(size: tuple[int, int]) -> None:
    masks = random_masks()
    crops = torch.tensor([[0, 0, 14, 18], [3, 2, 5, 9], [13, 17, 1, 1], [0, 4, 14, 3]])
    found = resized_crop_masks(masks[:4], crops, size)
    for mask, (top, left, height, width), result in zip(masks, crops.tolist(), found, strict=False):
        crop = mask[top : top + height, left : left + width]
        expected = F.interpolate(crop[None, None].double(), size, mode="nearest-exact")[0, 0]
        assert torch.equal(result.double(), expected)


def test_quarter_turns_of_squares_are_exact() -> None:
    masks = random_masks(14, 14)
    changes = torch.tensor([[0, AFFINE_ONE, 0, 0]] * len(masks))
    turned = affine_masks(masks, changes)
    assert torch.equal(turned, masks.rot90(-1, (1, 2)))
    assert torch.equal(turned[..., None], affine(masks[..., None], changes))


@pytest.mark.parametrize("options", GEOMETRY, ids=str)
def test_a_mask_moves_like_its_image(options: dict[str, Any]) -> None:
    # the image shows the mask's classes as grey levels, in blocks; pixels within a block are not blended
    blocks = random_masks(6, 8).repeat_interleave(10, 1).repeat_interleave(10, 2)
    augmented = augmentation(**options)
    images = augmented.on_device((50 * blocks)[..., None], IDS, epoch=3)[..., 0]
    masks = augmented.on_masks(blocks, IDS, epoch=3)
    assert masks.dtype == torch.uint8
    assert images.shape == masks.shape
    is_pure = (images % 50 == 0) & (masks != VOID)
    around = F.max_pool2d(images[:, None].float(), 3, 1, 1) == -F.max_pool2d(
        -images[:, None].float(), 3, 1, 1
    )
    is_inner = is_pure & around[:, 0]
    assert is_inner.float().mean() > 0.2
    assert torch.equal(images[is_inner], 50 * masks[is_inner])
    assert not torch.equal(masks, blocks)
    # which is another change for another seed or epoch
    assert not torch.equal(augmentation(2, **options).on_masks(blocks, IDS, 3), masks)
    assert not torch.equal(augmented.on_masks(blocks, IDS, 4), masks)


@pytest.mark.parametrize("options", GEOMETRY, ids=str)
def test_a_mask_does_not_depend_on_its_batch(options: dict[str, Any]) -> None:
    masks = random_masks()
    augmented = augmentation(**options)
    together = augmented.on_masks(masks, IDS, epoch=1)
    alone = [augmented.on_masks(masks[i : i + 1], IDS[i : i + 1], epoch=1) for i in range(len(IDS))]
    assert torch.equal(together, torch.cat(alone))
    assert set(together.unique().tolist()) <= {*range(5), VOID}


@pytest.mark.parametrize("options", COLOURS, ids=str)
def test_changes_of_colour_leave_masks_alone(options: dict[str, Any]) -> None:
    masks = random_masks()
    assert augmentation(**options).on_masks(masks, IDS, 0) is masks
    moved = augmentation(rotate=30).on_masks(masks, IDS, 0)
    assert torch.equal(augmentation(rotate=30, **options).on_masks(masks, IDS, 0), moved)


def test_masks_get_the_training_size_of_the_epoch() -> None:
    sizes = ((1, (8, 10)), (3, (12, 16)))
    for options in ({}, {"resized_crop": 0.5}):
        augmented = Augmentation(augment_options(**options), 1, sizes)
        for epoch, size in ((0, (8, 10)), (1, (8, 10)), (2, (12, 16))):
            assert augmented.on_masks(random_masks(), IDS, epoch).shape[1:] == size
