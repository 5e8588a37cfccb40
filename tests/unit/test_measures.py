"""Tests darkroom.preparation.measures."""

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import photographs, plant
from sklearn.datasets import load_digits

from darkroom.preparation.measures import HASH_BYTES, LEVEL, cell_means, measure, perceptual_hash


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    gap = perceptual_hash(first).astype(float) - perceptual_hash(second)
    return np.linalg.norm(gap, axis=1)


def grey_of(images: np.ndarray) -> np.ndarray:
    if images.shape[3] == 1:
        return images[..., 0].astype(np.int64)
    return images.astype(np.int64) @ [77, 150, 29] // 256


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 33, 17, 3), (3, 3, 4, 3), (2, 300, 260, 3)])
def test_brightness_and_sharpness_agree_with_scipy(shape):
    images = random_images(*shape)
    measures = measure(images)
    grey = grey_of(images)
    laplacian = np.stack([scipy.ndimage.laplace(image)[1:-1, 1:-1] for image in grey])
    np.testing.assert_allclose(measures.brightness, grey.mean(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(measures.sharpness, laplacian.var(axis=(1, 2)), rtol=1e-12)


def test_largest_sharpness_does_not_overflow():
    checkerboard = (np.indices((1, 2048, 2048, 1)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert measure(checkerboard).sharpness == 1020**2
    edge = np.zeros((1, 2048, 4, 1), np.uint8)
    edge[:, :, 0] = 255  # of the two columns inside, one is 255 and one is 0
    assert measure(edge).sharpness == 127.5**2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (9, 2)])
def test_images_without_an_inside_have_no_sharpness(size):
    images = random_images(4, *size, 3)
    assert not measure(images).sharpness.any()
    assert measure(images).hashes.shape == (4, HASH_BYTES)
    assert measure(images).brightness.all()


def test_blurred_image_is_less_sharp():
    image = photographs(1, 64)[0]
    blurred = scipy.ndimage.gaussian_filter(image, (1, 1, 0))
    sharp, soft = measure(np.stack([image, blurred])).sharpness
    assert soft < sharp / 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 1), (100, 60, 3), (224, 224, 3)])
def test_measures_of_an_image_do_not_depend_on_its_neighbours(shape):
    images = random_images(7, *shape)
    together = measure(images)
    alone = measure(images[3:4])
    for field in ("hashes", "brightness", "sharpness"):
        np.testing.assert_array_equal(getattr(together, field)[3:4], getattr(alone, field))


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from((1, 3)),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_cell_means_agree_with_a_loop(height, width, most_rows, most_columns, channels):
    images = random_images(2, height, width, channels)
    tall, wide = -(-height // most_rows), -(-width // most_columns)
    tops = [min(top, height - tall) for top in range(0, height, tall)]
    lefts = [min(left, width - wide) for left in range(0, width, wide)]
    expected = [
        [images[:, top : top + tall, left : left + wide].mean(axis=(1, 2)) for left in lefts]
        for top in tops
    ]
    cells = cell_means(images, most_rows, most_columns)
    assert len(tops) <= most_rows
    assert len(lefts) <= most_columns
    # rounded down; a mean that is a whole number may come out a hair too large in floats
    expected = np.floor(np.array(expected).transpose(2, 0, 1, 3) * LEVEL + 1e-9)
    np.testing.assert_array_equal(cells, expected)


def test_cell_sums_do_not_overflow():
    white = np.full((1, 2048, 2048, 3), 255, np.uint8)
    assert (cell_means(white, 8, 8) == 255 * LEVEL).all()


def test_hash_agrees_with_scipys_cosine_transform():
    images = random_images(40, 16, 16, 1)
    images[20:] = images[20:] // 8 + 100
    waves = scipy.fft.dctn(images[..., 0].astype(float), axes=(1, 2), norm="ortho") / 16
    waves = np.stack([waves[:, u, v] for u in range(4) for v in range(4) if 0 < u * u + v * v <= 9], 1)
    strength = np.linalg.norm(waves, axis=1, keepdims=True)
    hashes = perceptual_hash(images)
    np.testing.assert_allclose(hashes[:, :10], 128 + 127 * waves / np.maximum(strength, 16), atol=0.6)
    assert strength[:20].max() > 16 > strength[20:].max()
    assert (hashes[:, 10:] == 128).all()


def test_hash_of_a_pure_wave_is_full_scale():
    wave = 128 + 100 * np.cos(np.pi * (np.arange(32) + 0.5) / 32)
    images = np.broadcast_to(wave[None, :, None, None], (1, 32, 32, 1)).astype(np.uint8)
    (hashed,) = perceptual_hash(images)
    assert sorted(abs(hashed.astype(int) - 128))[-2:] < [4, 128]
    assert abs(hashed.astype(int) - 128).max() >= 126


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("change", ["jpeg", "smaller", "larger", "brightness", "noise", "all"])
def test_hash_stays_near_under_changes_that_keep_the_picture(size, change):
    rng = np.random.default_rng(size)
    originals = photographs(20, 256)
    changed = [plant(Image.fromarray(image), change, rng) for image in originals]
    first = np.stack([prepared(Image.fromarray(image), size) for image in originals])
    second = np.stack([prepared(image, size) for image in changed])
    assert distance(first, second).max() < 9
    assert distance(first, np.roll(second, 1, axis=0)).min() > 30


def prepared(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def test_hash_tells_digits_apart():
    digits = np.round(load_digits().images[:100, :, :, None] * 255 / 16).astype(np.uint8)
    lighter = (digits * 0.95 + 5).astype(np.uint8)
    assert distance(digits, lighter).max() < 5
    assert distance(digits[:-1], digits[1:]).min() > 15


def test_hash_of_flat_images_ignores_noise():
    rng = np.random.default_rng(0)
    flat = np.full((50, 32, 32, 3), 120, np.uint8)
    noisy = np.clip(flat + rng.normal(0, 2, flat.shape), 0, 255).astype(np.uint8)
    assert distance(flat, noisy).max() < 4


def test_hash_sees_colour():
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    blue = red[..., ::-1]
    assert distance(red, blue) > 50
