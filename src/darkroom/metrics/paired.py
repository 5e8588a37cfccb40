"""The difference of two models on the same images: interval, tests, and the power of the test set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from darkroom.metrics.resampling import CHUNK, CONFIDENCE, NUM_RESAMPLES, Units, draw, make_units

DETECTABLE = 2.801585
"""The normal quantiles of 0.975 and 0.8, added: the factor of the standard error at which a two-sided
test at 5 % finds a difference with a power of 80 % (Cohen, "Statistical Power Analysis for the
Behavioral Sciences", 1988; for comparisons of models Card et al., "With Little Power Comes Great
Responsibility", 2020)."""


@dataclass(frozen=True)
class Paired:
    """The difference of macro F1, second model minus first."""

    scores: tuple[float, float]
    """The macro F1 of each model."""
    low: float
    high: float
    """The 95 % interval of the difference."""
    standard_error: float
    p_value: float
    """Of a two-sided randomisation test."""
    class_scores: NDArray[np.float64]
    """F1 of each model and class, ``(2, num_classes)``; NaN for a class without images."""
    class_intervals: NDArray[np.float64]
    """The 95 % interval of each class's difference, ``(2, num_classes)``; NaN likewise."""
    class_p_values: NDArray[np.float64]
    """Those of the randomisation test for each class, ``(num_classes,)``; 1 likewise."""

    @property
    def difference(self) -> float:
        return self.scores[1] - self.scores[0]

    @property
    def detectable(self) -> float:
        """The smallest difference that as many such images show with a power of 80 %."""
        return DETECTABLE * self.standard_error

    def needed(self, num_images: int) -> int | None:
        """Return how many such images would show the observed difference with a power of 80 %.

        None if there is no difference, or if no image tells the models apart.
        """
        if self.standard_error == 0 or abs(self.difference) < 1e-12:
            return None
        return ceil(num_images * (self.detectable / self.difference) ** 2)


def compare_units(
    units: Units,
    advance: Callable[[int], None] = lambda num_resamples: None,
    num_resamples: int = NUM_RESAMPLES,
) -> Paired:
    """Compare the macro F1 of two models on the same images.

    The interval is the percentile interval of the paired bootstrap (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993): images are drawn with both predictions, per class if each
    image has one, and whole groups if there are groups. The p-value is that of a randomisation test,
    which exchanges the two predictions of images at random (Yeh, "More accurate tests for the
    statistical significance of result differences", 2000): unlike the percentile interval it is valid
    if only a few images differ. The same input always gives the same result.

    Args:
        units: with five blocks of columns, each with a column per class: images (or pixels) with the
            class; hits and predictions of the first model; hits and predictions of the second.
        advance: called with the number of resamples that were drawn since the last call.
    """
    totals = (units.rows.T @ units.counts)[None]
    of_classes = _f1(totals)
    scores, change = _mean(of_classes), np.abs(of_classes[1, 0] - of_classes[0, 0])
    random = np.random.Generator(np.random.Philox(0))
    differences = np.empty(num_resamples)
    per_class = np.empty((num_resamples, len(change)), dtype=np.float32)
    exchanged, classes_as_far = np.empty(num_resamples), np.zeros(len(change), np.int64)
    swap = _swapped(units.rows) - units.rows
    for start in range(0, num_resamples, CHUNK):
        size = min(CHUNK, num_resamples - start)
        part = slice(start, start + size)
        f1 = _f1(draw(units, size, random) @ units.rows)
        per_class[part] = f1[1] - f1[0]
        means = _mean(f1)
        differences[part] = means[1] - means[0]
        swapped = random.binomial(units.counts, 0.5, (size, len(units.counts)))
        f1 = _f1(totals + swapped @ swap)
        classes_as_far += (~(np.abs(f1[1] - f1[0]) < change - 1e-12)).sum(axis=0)
        means = _mean(f1)
        exchanged[part] = means[1] - means[0]
        advance(size)
    observed = float(scores[1, 0] - scores[0, 0])
    as_far = np.abs(exchanged) >= abs(observed) - 1e-12
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    low, high = np.percentile(differences, tails)
    return Paired(
        scores=(float(scores[0, 0]), float(scores[1, 0])),
        low=float(low),
        high=float(high),
        standard_error=float(differences.std()),
        p_value=(1 + int(as_far.sum())) / (1 + num_resamples),
        class_scores=of_classes[:, 0],
        class_intervals=_class_intervals(per_class, tails),
        class_p_values=(1 + classes_as_far) / (1 + num_resamples),
    )


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Return how many images only the first and only the second model has right, and the exact p-value.

    Args:
        first, second: whether each model is right, ``(n,)``.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_first + only_second:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)


def label_units(
    targets: NDArray[np.bool_],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
) -> Units:
    """Return what is drawn of labelled images, for ``compare_units``.

    Args:
        targets, first, second: ``(n, num_classes)``, the true labels and those that each model predicts.
        groups: the group of each image, ``(n,)``; None: each image is by itself.
    """
    columns = [targets, targets & first, first, targets & second, second]
    return make_units(columns, [targets, first, second], groups)


def pixel_units(columns: Sequence[NDArray[np.int64]], groups: NDArray[np.int64] | None) -> Units:
    """Return images, or groups of images, with all their pixels, for ``compare_units``.

    Args:
        columns: five blocks of counted pixels, ``(n, num_classes)`` each.
        groups: the group of each image, ``(n,)``; None: each image is by itself.
    """
    rows = sparse.csr_matrix(np.concatenate(columns, axis=1), dtype=np.float64)
    if groups is not None:
        places = (np.ones(len(groups)), (groups, np.arange(len(groups))))
        rows = (sparse.csr_matrix(places) @ rows).tocsr()
    return Units(rows, np.ones(rows.shape[0], np.int64), [np.arange(rows.shape[0])])


def _swapped(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return rows with the blocks of both models exchanged."""
    width = rows.shape[1] // 5
    order = [0, 3, 4, 1, 2]
    return rows[:, np.concatenate([np.arange(width) + block * width for block in order])]


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F1 of both models, ``(2, m, num_classes)``; NaN for classes without images.

    Args:
        sums: the columns of the units, added, ``(m, 5 * num_classes)``.
    """
    support, *models = np.split(np.asarray(sums), 5, axis=1)
    hits, predicted = np.stack(models[::2]), np.stack(models[1::2])
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return np.where(support > 0, f1, np.nan)


def _mean(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes with images, ``(2, m)``; 0 if there are none."""
    num_present = np.maximum((~np.isnan(f1)).sum(axis=2), 1)
    means: NDArray[np.float64] = np.nansum(f1, axis=2) / num_present
    return means


def _class_intervals(differences: NDArray[np.float32], tails: list[float]) -> NDArray[np.float64]:
    present = ~np.isnan(differences).all(axis=0)
    intervals = np.full((2, differences.shape[1]), np.nan)
    intervals[:, present] = np.nanpercentile(differences[:, present], tails, axis=0)
    return intervals
