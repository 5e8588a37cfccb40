"""Masks of images of any size: tiles, their weights, and the way back to the image's size."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset.views import EvaluationView
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, Resize
from darkroom.prediction.tiles import (
    NotFiniteError,
    blended,
    make_canvas,
    predict_canvas,
    tile_weights,
)

SIZE = (8, 12)


def by_brightness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that knows three classes by the brightness of each pixel: dark, middle and bright."""
    distances = np.abs(images[:, 0, None] - np.array([0, 128, 255], np.float32)[:, None, None])
    closeness = np.exp(-distances / 20)
    return (closeness / closeness.sum(axis=1, keepdims=True)).astype(np.float32)


def by_surroundings(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that sees the mean of the tile, so that tiles disagree where they overlap."""
    means = images.mean(axis=(1, 2, 3), keepdims=True)[:, 0] / 255
    share = np.broadcast_to(means, images[:, 0].shape)
    return np.stack([share, 1 - share], axis=1).astype(np.float32)


def drawn(width: int, height: int) -> Image.Image:
    """A dark image with a bright right half and a middle band at the bottom."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    pixels[-(height // 3) :] = 128
    return Image.fromarray(pixels)


@pytest.mark.parametrize("side", [1, 2, 3, 8, 13])
def test_tiles_cover_a_side_evenly_with_weights_that_sum_to_one(side: int) -> None:
    for length in range(side, 6 * side + 2):
        tiles = tile_weights(length, side)
        starts = np.array([start for start, _ in tiles])
        assert (starts[0], starts[-1]) == (0, length - side)
        steps = np.diff(starts)
        assert len(steps) == 0 or (steps.min() > 0 and np.ptp(steps) <= 1)
        assert (side - steps >= side // 4).all()
        total = np.zeros(length)
        for start, weights in tiles:
            assert (weights > 0).all()
            total[start : start + side] += weights
        assert total == pytest.approx(np.ones(length), abs=1e-6)
    [(_, alone)] = tile_weights(side, side)
    assert (alone == 1).all()


def test_overlapping_tiles_are_averaged_by_their_distance_from_the_edges() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (19, 30, 1), dtype=np.uint8)
    bands = list(blended(pixels, by_surroundings, SIZE, 64))
    found = np.concatenate(bands, axis=1)
    sums, total = np.zeros((19, 30)), np.zeros((19, 30))
    for top in (0, 5, 11):
        for left in (0, 9, 18):
            share = pixels[top : top + 8, left : left + 12].mean() / 255
            for y in range(8):
                for x in range(12):
                    weight = min(y + 1, 8 - y) * min(x + 1, 12 - x)
                    sums[top + y, left + x] += weight * share
                    total[top + y, left + x] += weight
    assert found[0] == pytest.approx(sums / total, abs=1e-6)
    assert found[1] == pytest.approx(1 - sums / total, abs=1e-6)
    for batch_size in (1, 2):
        assert np.array_equal(
            np.concatenate(list(blended(pixels, by_surroundings, SIZE, batch_size)), 1), found
        )


@pytest.mark.parametrize(
    "view", [None, EvaluationView((4, 6), "centre"), EvaluationView((4, 6), "whole")]
)
@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("size", [(12, 8), (60, 60), (16, 90), (90, 16), (5, 4)])
def test_masks_have_the_size_of_their_image_and_fit_it(
    resize: Resize, size: tuple[int, int], view: EvaluationView | None
) -> None:
    image, layout = drawn(*size), PixelLayout(*SIZE, 1, resize)
    canvas = make_canvas(image, layout, view, own_scale=False)
    mask = predict_canvas(canvas, by_brightness, view.size if view else SIZE, 3)
    assert mask.shape == size[::-1]
    truth = np.asarray(image) // 127
    if canvas.pixels.shape[:2] == truth.shape:
        assert np.array_equal(mask, truth)
    # edges move by less than a pixel of the canvas
    far = np.ones(truth.shape, np.bool_)
    reach = [
        -(-whole // part) + 1 for whole, part in zip(truth.shape, canvas.pixels.shape, strict=False)
    ]
    if "pad" in resize:
        reach = [max(reach)] * 2
    middle, bottom = size[0] // 2, size[1] - size[1] // 3
    far[:, max(middle - reach[1], 0) : middle + reach[1]] = False
    far[max(bottom - reach[0], 0) : bottom + reach[0]] = False
    assert np.array_equal(mask[far], truth[far])


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_images_keep_their_scale_if_that_is_wanted_and_they_are_larger(resize: Resize) -> None:
    layout = PixelLayout(*SIZE, 1, resize)
    large, long, small = drawn(31, 22), drawn(40, 4), drawn(9, 5)
    canvas = make_canvas(large, layout, None, own_scale=True)
    assert np.array_equal(canvas.pixels[..., 0], np.asarray(large))
    mask = predict_canvas(canvas, by_brightness, SIZE, 2)
    assert np.array_equal(mask, np.asarray(large) // 127)
    assert make_canvas(long, layout, None, own_scale=True).pixels.shape == (8, 80, 1)
    for own_scale in (False, True):
        prepared = make_canvas(small, layout, None, own_scale).pixels
        assert prepared.shape[: 2 if resize != "crop" else 1] == SIZE[: 2 if resize != "crop" else 1]


def test_images_that_would_be_too_large_are_refused() -> None:
    with pytest.raises(
        BadImage, match=r"at the model's scale, 160000000 x 8 pixels; at most 103,000,000"
    ):
        make_canvas(Image.new("L", (20_000_000, 1)), PixelLayout(*SIZE, 1, "crop"), None, False)


def test_probabilities_that_are_not_finite_are_refused() -> None:
    canvas = make_canvas(drawn(12, 8), PixelLayout(*SIZE, 1, "pad"), None, False)
    with pytest.raises(NotFiniteError):
        predict_canvas(canvas, lambda images: by_brightness(images) * np.float32(np.nan), SIZE, 2)
