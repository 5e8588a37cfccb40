"""Mean and standard deviation, against numpy on float64 and against exact fractions."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support import write_shards

from darkroom.dataset import shard_writer
from darkroom.dataset.shards import Shards
from darkroom.preparation import statistics as statistics_module
from darkroom.preparation.statistics import channel_histogram, mean_and_std


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block_pixels", [1, 100, 2**22])
def test_the_histogram_counts_every_value_of_each_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, block_pixels: int
) -> None:
    images = np.random.default_rng(channels).normal(100, 40, (23, 5, 7, channels))
    images = (images + [0, 20, -30][:channels]).clip(0, 255).astype(np.uint8)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 9 * images[0].nbytes)
    monkeypatch.setattr(shard_writer, "BATCH_BYTES", 2 * images[0].nbytes)
    monkeypatch.setattr(statistics_module, "BLOCK_PIXELS", block_pixels)
    shards = Shards(write_shards(tmp_path / "train", images, np.zeros(23, np.int64)))
    expected = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(channels)]
    histogram = channel_histogram(shards)
    assert histogram.dtype == np.int64
    assert np.array_equal(histogram, expected)
    mean, std = mean_and_std(histogram)
    scaled = images.astype(np.float64) / 255
    assert mean == pytest.approx(scaled.mean((0, 1, 2)), rel=1e-13)
    assert std == pytest.approx(scaled.std((0, 1, 2)), rel=1e-13)
    assert std != pytest.approx(scaled.std((0, 1, 2), ddof=1), rel=1e-5)


def test_the_order_of_the_images_is_irrelevant_and_every_pixel_counts(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), dtype=np.uint8)
    labels = np.zeros(50, np.int64)
    changed = images.copy()
    changed[31, 2, 5, 1] ^= 1
    found = [
        mean_and_std(channel_histogram(Shards(write_shards(tmp_path / name, each, labels))))
        for name, each in (("a", images), ("b", images[::-1].copy()), ("c", changed))
    ]
    assert found[0] == found[1] != found[2]


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    assert mean_and_std(np.bincount([51] * 9, minlength=256)[None]) == ([0.2], [1.0])
    assert mean_and_std(np.bincount([0], minlength=256)[None]) == ([0.0], [1.0])
    assert mean_and_std(np.bincount([0, 255], minlength=256)[None]) == ([0.5], [0.5])


def test_counts_of_a_huge_collection_are_exact() -> None:
    """One value among 10**15 others: sums of floats would lose it, and the variance with it."""
    counts = np.zeros(256, np.int64)
    counts[[254, 255]] = 1, 10**15
    [mean], [std] = mean_and_std(counts[None])
    rare = Fraction(1, 10**15 + 1)
    assert mean == float((254 * rare + 255 * (1 - rare)) / 255)
    assert std == math.sqrt(rare * (1 - rare)) / 255
    values, weights = np.arange(256.0), counts / counts.sum()
    naive = (weights * values**2).sum() - (weights * values).sum() ** 2
    assert math.sqrt(max(naive, 0)) / 255 != pytest.approx(std, rel=0.01)


def test_the_mean_is_the_nearest_float() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        counts = random.integers(0, 10 ** random.integers(1, 16), 256)
        [mean], [std] = mean_and_std(counts[None])
        total = int(counts.sum())
        first = sum(Fraction(value * int(count)) for value, count in enumerate(counts)) / total
        second = sum(Fraction(value**2 * int(count)) for value, count in enumerate(counts)) / total
        assert mean == float(first) / 255
        assert std == math.sqrt(float(second - first**2)) / 255
