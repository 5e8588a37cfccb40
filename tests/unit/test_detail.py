"""Tests darkroom.preparation.detail."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planted import photographs, strokes

from darkroom.preparation.detail import detailed_cells, detailed_difference


def between(first: np.ndarray, second: np.ndarray) -> float:
    """Compares two images, uint8 ``(height, width, channels)``."""
    cells = detailed_cells(np.stack([first, second]))
    forth, back = detailed_difference(cells, cells[::-1])
    assert forth == back
    return forth


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


@pytest.mark.parametrize(
    ("shape", "cells"),
    [
        ((28, 28), (27, 27)),
        ((64, 64), (63, 63)),
        ((224, 160), (55, 53)),
        ((1, 5), (1, 4)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_cells_are_sums_of_four_neighbours(shape, cells, channels):
    assert (
        detailed_cells(np.full((2, *shape, channels), 100, np.uint8)).tolist()
        == np.full((2, *cells), 64 * 100).tolist()
    )


def test_cells_by_hand():
    image = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)[None, ..., None]
    assert detailed_cells(image).tolist() == [[[16 * 120, 16 * 160]]]


def fit(source: np.ndarray, target: np.ndarray) -> float:
    """Returns what is left of ``target`` if ``source`` and its blur, by least squares, make it."""
    padded = np.pad(source, 1, mode="edge")
    rows, columns = source.shape
    soft = np.zeros_like(source)
    for down in range(3):
        for right in range(3):
            weight = (2 - abs(down - 1)) * (2 - abs(right - 1)) / 16
            soft += weight * padded[down : down + rows, right : right + columns]
    basis = np.stack([source.ravel(), (soft - source).ravel()], axis=1)
    (gain, _), *_ = np.linalg.lstsq(basis, target.ravel(), rcond=None)
    gain = np.clip(gain, 1 / 1.1, 1.1)
    [blur], *_ = np.linalg.lstsq(basis[:, 1:], target.ravel() - gain * basis[:, 0], rcond=None)
    return np.abs(target.ravel() - basis @ (gain, np.clip(blur, 0, 4))).max()


@pytest.mark.parametrize(
    "image", [photographs(1, 48)[0][..., :1], strokes(1)[0]], ids=["photograph", "drawing"]
)
@pytest.mark.parametrize("radius", [0.5, 0.8, 1.1])
def test_what_is_left_agrees_with_least_squares(image, radius):
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    soft = blurred(image[..., 0], radius)[..., None] * 0.97 + noise + 5
    changed = np.clip(np.round(soft), 0, 255).astype(np.uint8)
    x, y = detailed_cells(np.stack([image, changed])) / 64
    x, y = x - np.floor(x.mean()), y - np.floor(y.mean())
    left = min(fit(x, y), fit(y, x))
    assert between(image, changed) == pytest.approx(left / min(np.ptp(x), np.ptp(y)), abs=2e-3)
    assert between(image, changed) > 0.01


@pytest.mark.parametrize("image", [photographs(1, 48)[0], strokes(1)[0]], ids=["photograph", "drawing"])
def test_changes_of_the_whole_image_are_undone(image):
    soft = blurred(image.squeeze(), 0.8).reshape(image.shape)
    fainter = (image * 0.93 + 9).astype(np.uint8)
    assert between(image, image) == 0
    assert between(image, fainter) < 0.02
    assert between(image, soft) < 0.05
    moved = np.roll(image, 1, axis=1)
    assert between(image, moved) > 0.15


def test_only_small_changes_of_the_whole_image_are_undone():
    image = 60 + photographs(1, 48)[0] // 2
    for contrast, is_undone in ((0.93, True), (1.07, True), (0.7, False), (1.4, False)):
        changed = ((image - 128.0) * contrast + 128).astype(np.uint8)
        assert (between(image, changed) < 0.03) == is_undone
    assert between(image, image + 25) < 0.001
    assert between(image, image + 60) > 0.2
    assert between(image, blurred(image, 6)) > 0.1


@pytest.mark.slow
def test_pairs_do_not_depend_on_what_is_compared_beside_them():
    cells = detailed_cells(photographs(300, 64))
    together = detailed_difference(cells[:-1], cells[1:])
    alone = [detailed_difference(cells[i : i + 1], cells[i + 1 : i + 2])[0] for i in range(299)]
    np.testing.assert_array_equal(together, alone)
    assert detailed_difference(cells[:0], cells[:0]).shape == (0,)
