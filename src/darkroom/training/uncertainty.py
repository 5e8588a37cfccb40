"""The standard error of macro F1, by the bootstrap over images.

After Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.metrics.pixels import PixelCounts

NUM_RESAMPLES = 200
"""Enough for a standard error: its own relative error is then a twentieth."""

DIGITS = 6
"""Results are rounded: the last digits of a sum of floats depend on the processor."""

_CHUNK = 2**15
"""Images drawn at once if each has one class, so that the counts stay in the CPU's cache."""

_MATRIX = 2**24
"""Size of each of the matrices that are multiplied if an image may have several labels."""

_MAX_EXACT = 2**24
"""float32 holds every integer up to this."""


def standard_error_of_classes(targets: Tensor, preds: Tensor, num_classes: int, seed: int) -> float:
    """Return the standard deviation of ``macro_f1`` over resamples of the images.

    A resample has as many images, drawn with replacement. Draws and counts are integers, so the result
    is the same on every machine.

    Args:
        targets, preds: int64 ``(n,)``, at least one image.
        seed: of the draws, at least 0.

    Returns:
        A number in 0..1, rounded to six digits; 0 if all resamples have the same score, as those of a
        single image or of a perfect classifier do.
    """
    rng = np.random.default_rng(seed)
    return _deviation(_count_classes(_numpy(targets), _numpy(preds), num_classes, rng))


def standard_error_of_labels(targets: Tensor, preds: Tensor, seed: int) -> float:
    """Return the standard deviation of ``macro_f1_of_labels``; see ``standard_error_of_classes``.

    Args:
        targets, preds: 0 and 1, ``(n, num_labels)``, at least one image.
    """
    rng = np.random.default_rng(seed)
    return _deviation(_count_labels(_numpy(targets) > 0, _numpy(preds) > 0, rng))


def standard_error_of_pixels(counts: PixelCounts, seed: int) -> float:
    """Return the standard deviation of macro F1 over all pixels; see ``standard_error_of_classes``.

    Images are drawn with all their pixels, because the pixels of an image are alike.
    """
    rng = np.random.default_rng(seed)
    return _deviation(_sum_pixels(counts, rng))


Counts = tuple[NDArray, NDArray, NDArray]
"""True positives, images and predictions of each class, ``(resamples, num_classes)`` each."""


def _count_classes(
    targets: NDArray[np.int64], preds: NDArray[np.int64], num_classes: int, rng: np.random.Generator
) -> Iterator[Counts]:
    for drawn in _draws(len(targets), rng, _CHUNK):
        rows = len(drawn)
        firsts = num_classes * np.arange(rows)[:, None]
        true, predicted = (firsts + targets[drawn]).ravel(), (firsts + preds[drawn]).ravel()
        hits, support, num_predicted = (
            np.bincount(cells, minlength=rows * num_classes).reshape(rows, num_classes)
            for cells in (true[true == predicted], true, predicted)
        )
        yield hits, support, num_predicted


def _count_labels(
    targets: NDArray[np.bool_], preds: NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[Counts]:
    num_images, num_labels = targets.shape
    # sums of integers are exact in any order, and float32 takes half the time
    dtype = np.float32 if 2 * num_images <= _MAX_EXACT else np.float64
    columns = max(_MATRIX // num_images, 1)
    for drawn in _draws(num_images, rng, _MATRIX):
        rows = len(drawn)
        cells = (num_images * np.arange(rows)[:, None] + drawn).ravel()
        repeats: NDArray = (
            np.bincount(cells, minlength=drawn.size).astype(dtype).reshape(rows, num_images)
        )
        hits, support, num_predicted = np.empty((3, rows, num_labels))
        for first in range(0, num_labels, columns):
            labels = slice(first, first + columns)
            true: NDArray = targets[:, labels].astype(dtype)
            predicted: NDArray = preds[:, labels].astype(dtype)
            hits[:, labels] = repeats @ (true * predicted)
            support[:, labels] = repeats @ true
            num_predicted[:, labels] = repeats @ predicted
        yield hits, support, num_predicted


def _sum_pixels(pixels: PixelCounts, rng: np.random.Generator) -> Iterator[Counts]:
    tables = [_numpy(counts) for counts in (pixels.hits, pixels.support, pixels.predicted)]
    for drawn in _draws(len(tables[0]), rng, _CHUNK):
        hits, support, num_predicted = (counts[drawn].sum(axis=1) for counts in tables)
        yield hits, support, num_predicted


def _draws(num_images: int, rng: np.random.Generator, num_at_once: int) -> Iterator[NDArray[np.int64]]:
    """Yield resamples as positions of their images: int64 ``(resamples, num_images)``.

    Args:
        num_at_once: maximum number of images that are drawn at once.
    """
    rows = max(num_at_once // num_images, 1)
    for first in range(0, NUM_RESAMPLES, rows):
        yield rng.integers(num_images, size=(min(rows, NUM_RESAMPLES - first), num_images))


def _deviation(counts: Iterator[Counts]) -> float:
    scores = np.concatenate([_macro_f1(*part) for part in counts])
    return round(float(scores.std(ddof=1)), DIGITS)


def _macro_f1(hits: NDArray, support: NDArray, num_predicted: NDArray) -> NDArray[np.float64]:
    """Return the macro F1 of each resample; 0 if its images have no label at all."""
    f1 = 2 * hits / np.maximum(support + num_predicted, 1)  # 0 for a class without images
    return f1.sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1)


def _numpy(values: Tensor) -> NDArray:
    return values.cpu().numpy()
