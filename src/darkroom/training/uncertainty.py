"""The standard error of macro F1, by the bootstrap over images.

After Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

NUM_RESAMPLES = 200
"""Two hundred are enough for a standard error: its own error is then a twentieth of it."""

DIGITS = 6
"""To which it is rounded: the last digits of a sum of floats depend on the processor."""

_CHUNK = 2**15
"""Images that are drawn at once where each has one class: what is counted stays in the CPU's cache."""

_MATRIX = 2**24
"""Numbers in each of the matrices that are multiplied where an image may have several labels."""

_LARGEST_EXACT = 2**24
"""Up to which float32 holds every whole number."""


def macro_f1_standard_error(targets: Tensor, preds: Tensor, num_classes: int, seed: int) -> float:
    """Returns the standard deviation of macro F1 over resamples of the images.

    A resample is as many images, drawn with replacement. In each, macro F1 is what ``macro_f1`` and
    ``macro_f1_of_labels`` compute: classes without images in it are excluded.
    Draws and counts are whole numbers, so the result is the same on every machine.

    Args:
        targets: int64 ``(n,)``, true classes; or 0 and 1 ``(n, num_classes)``, where an image may have
            several labels. At least one image.
        preds: as ``targets``.
        seed: of the draws, at least 0.

    Returns:
        in 0..1, rounded to six digits; 0 if all resamples score the same, as those of one image do, and
        those of a faultless classifier.
    """
    rng = np.random.default_rng(seed)
    if targets.ndim == 2:
        counts = _count_labels(_numpy(targets) > 0, _numpy(preds) > 0, rng)
    else:
        counts = _count_classes(_numpy(targets), _numpy(preds), num_classes, rng)
    scores = np.concatenate([_macro_f1(*each) for each in counts])
    return round(float(scores.std(ddof=1)), DIGITS)


Counts = tuple[NDArray, NDArray, NDArray]
"""``(resamples, num_classes)`` each: true positives, images of the class, and predictions of it."""


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
    # sums of whole numbers: exact in any order, and float32 takes half the time
    dtype = np.float32 if 2 * num_images <= _LARGEST_EXACT else np.float64
    columns = max(_MATRIX // num_images, 1)
    for drawn in _draws(num_images, rng, _MATRIX):
        rows = len(drawn)
        cells = (num_images * np.arange(rows)[:, None] + drawn).ravel()
        times: NDArray = np.bincount(cells, minlength=drawn.size).astype(dtype).reshape(rows, num_images)
        hits, support, num_predicted = np.empty((3, rows, num_labels))
        for first in range(0, num_labels, columns):
            some = slice(first, first + columns)
            true: NDArray = targets[:, some].astype(dtype)
            predicted: NDArray = preds[:, some].astype(dtype)
            hits[:, some] = times @ (true * predicted)
            support[:, some] = times @ true
            num_predicted[:, some] = times @ predicted
        yield hits, support, num_predicted


def _draws(num_images: int, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.int64]]:
    """Yields the images of the resamples, by their positions: int64 ``(resamples, num_images)``.

    Args:
        most: the number of images that are drawn at once.
    """
    rows = max(most // num_images, 1)
    for first in range(0, NUM_RESAMPLES, rows):
        yield rng.integers(num_images, size=(min(rows, NUM_RESAMPLES - first), num_images))


def _macro_f1(hits: NDArray, support: NDArray, num_predicted: NDArray) -> NDArray[np.float64]:
    """Returns macro F1 of each resample; 0 if its images have no class at all."""
    f1 = 2 * hits / np.maximum(support + num_predicted, 1)  # 0 where there is no image
    return f1.sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1)


def _numpy(values: Tensor) -> NDArray:
    return values.cpu().numpy()
