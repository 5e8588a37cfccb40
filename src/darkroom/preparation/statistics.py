"""Exact mean and standard deviation of the training images."""

import math

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import as_picture

BLOCK_PIXELS = 2**22
"""Maximum number of pixels in memory at once."""


def channel_histogram(shards: Shards) -> NDArray[np.int64]:
    """Return how often each value occurs in each channel: int64 ``(channels, 256)``."""
    height, width, channels = shards.shape
    histogram = np.zeros(channels * 256, np.int64)
    step = max(1, BLOCK_PIXELS // (height * width))
    for start in range(0, len(shards), step):
        images = shards.gather(np.arange(start, min(start + step, len(shards))))
        histogram += as_picture(images.reshape(-1, width, channels)).histogram()
    return histogram.reshape(channels, 256)


def mean_and_std(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, of pixel values scaled to 0..1.

    Args:
        histogram: int64 ``(channels, 256)``, how often each value occurs. Sums of integers are
            exact, so the result does not depend on the order of the images or on the machine.
    """
    values = range(256)
    means, stds = [], []
    for counts in histogram.tolist():
        total = sum(counts)
        first = sum(value * count for value, count in zip(values, counts, strict=True))
        second = sum(value * value * count for value, count in zip(values, counts, strict=True))
        variance = (second * total - first * first) / total**2
        means.append(first / total / 255)
        # a constant channel has no information; 1 makes the division by std harmless
        stds.append(math.sqrt(variance) / 255 if variance > 0 else 1.0)
    return means, stds
