"""Confidence intervals of scores: Wilson intervals with the effective sample size of a bootstrap.

The bootstrap resamples images, per class if each has one, or whole groups of images. Its variance tells
how many independent images would give the same certainty; Wilson's interval for that number stays
within 0..1 and does not shrink to a point where every prediction is right. See
``docs/decisions/0028-intervals.md``.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); Korn and Graubard, "Confidence
intervals for proportions with small expected number of positive counts estimated from survey data"
(1998), for the effective sample size; Dean and Pagano, "Evaluating confidence interval methods for
binomial proportions in clustered surveys" (2015), for Wilson's interval with it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.digits import DIGITS
from darkroom.metrics.resampling import CHUNK, NUM_RESAMPLES, Units, draw, make_units

QUANTILE = 1.959963984540054
"""The quantile of the normal distribution that belongs to a confidence of 95 %."""
FEW_ERRORS = 20
"""Number of wrong images, or groups, below which a score is based on no more images than it has."""
WORK = 4 * 10**7
"""Maximum number of counts that are drawn; there are fewer resamples of very many kinds of images."""

Bounds = NDArray[np.float64]
"""Lower and upper bounds, ``(2, ...)``, rounded to six digits; NaN if the score is not measured."""


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals of the scores of one model."""

    f1_macro: Bounds
    """``(2,)``"""
    right: Bounds
    """Of the fraction of images that are right in all their labels, ``(2,)``."""
    precision: Bounds
    """Of each class, ``(2, num_classes)``, like the next two."""
    recall: Bounds
    f1: Bounds


def score_intervals(
    targets: NDArray[np.bool_], preds: NDArray[np.bool_], groups: NDArray[np.int64] | None = None
) -> Intervals:
    """Return the intervals of a model's scores.

    The same input always gives the same result.

    Args:
        targets, preds: true and predicted classes, bool ``(n, num_classes)``; at least one image.
        groups: the group of each image, 0 to ``num_groups - 1``, int64 ``(n,)``, if images of a group
            are alike; None: each image is by itself.
    """
    units = _units(targets, preds, groups)
    totals = np.asarray(units.rows.T @ units.counts)[None]
    variances = bootstrap_variances(units, _scores)
    sizes = _independent_units(targets, preds, groups)
    num_wrong = _wrong_units(targets, preds, groups)
    # resamples of n units vary by (n - 1) / n too little, which matters for classes of a few images
    per_class = np.maximum(sizes["recall"], 2)
    growth = per_class / (per_class - 1)
    growth_of_mean = np.average(growth, weights=targets.any(axis=0) / per_class)
    bounds = {}
    for name, [score] in _scores(totals).items():
        variance = variances[name] * (growth if np.ndim(score) else growth_of_mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = score * (1 - score) / variance
        # the variance of a handful of errors is too uncertain, and that of none is 0
        is_certain = (size > 0) & np.isfinite(size)
        at_most = np.where(is_certain & (num_wrong[name] >= FEW_ERRORS), np.inf, sizes[name])
        bounds[name] = wilson(score, np.where(is_certain, np.minimum(size, at_most), sizes[name]))
    return Intervals(**bounds)


def named_bounds(bounds: Mapping[str, Bounds]) -> dict[str, float | None]:
    """Return lower and upper bounds under their names in metrics.json; None if not measured."""
    return {
        f"{name}_{side}": None if np.isnan(value) else float(value)
        for name, both in bounds.items()
        for side, value in zip(("low", "high"), both, strict=True)
    }


def wilson(score: NDArray[np.float64], size: NDArray[np.float64]) -> Bounds:
    """Return the 95 % interval of Wilson, "Probable Inference, the Law of Succession" (1927).

    Args:
        score: fraction, 0..1, of any shape; NaN gives NaN.
        size: the number of independent trials, of the same shape, above 0.
    """
    square = QUANTILE**2 / size
    centre = (score + square / 2) / (1 + square)
    half = QUANTILE * np.sqrt(score * (1 - score) / size + square / (4 * size)) / (1 + square)
    low, high = np.where(score == 0, 0, centre - half), np.where(score == 1, 1, centre + half)
    return np.round(np.clip([low, high], 0, 1), DIGITS)


def _units(
    targets: NDArray[np.bool_], preds: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> Units:
    """Return the counts that the bootstrap resamples.

    The columns are three blocks of classes (images of the class, right predictions of it, all
    predictions of it), the images that are right, and the images.
    """
    is_right = (targets == preds).all(axis=1, keepdims=True)
    columns = [targets, targets & preds, preds, is_right, np.ones_like(is_right)]
    return make_units(columns, [targets, preds], groups)


def bootstrap_variances(
    units: Units, scores: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
) -> dict[str, NDArray[np.float64]]:
    """Return the variance of each score over resamples in which it can be measured.

    Args:
        scores: takes sums of the units' columns, ``(resamples, num_columns)``; returns scores,
            ``(resamples, ...)``, NaN if one cannot be measured.
    """
    moments: dict[str, list[NDArray[np.float64]]] = {}
    for sums in _resamples(units):
        for name, values in scores(sums).items():
            present = ~np.isnan(values)
            known = np.where(present, values, 0)
            part = [present.sum(axis=0), known.sum(axis=0), (known**2).sum(axis=0)]
            before = moments.get(name, [np.zeros_like(part[1])] * 3)
            moments[name] = [old + new for old, new in zip(before, part, strict=True)]
    variances = {}
    for name, (number, total, squares) in moments.items():
        mean = total / np.maximum(number, 1)
        variance = squares / np.maximum(number, 1) - mean**2
        variances[name] = np.where(variance > 1e-12, variance, 0)
    return variances


def _resamples(units: Units) -> Iterator[NDArray[np.float64]]:
    """Yield the columns of the units, added over each resample, ``(resamples, num_columns)``."""
    random = np.random.Generator(np.random.Philox(0))
    num_resamples = min(NUM_RESAMPLES, max(WORK // len(units.counts), CHUNK))
    for start in range(0, num_resamples, CHUNK):
        size = min(CHUNK, num_resamples - start)
        yield np.asarray(draw(units, size, random) @ units.rows)


def _scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the fields of ``Intervals`` as scores, ``(m,)`` or ``(m, num_classes)``.

    As everywhere, a class without images is not measured, and the precision of a class that is never
    predicted is 0.
    """
    num_classes = (sums.shape[1] - 2) // 3
    support, hits, predicted, rest = np.split(
        sums, [num_classes, 2 * num_classes, 3 * num_classes], axis=1
    )
    is_present = support > 0
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return {
        "f1_macro": np.where(is_present, f1, 0).sum(axis=1) / np.maximum(is_present.sum(axis=1), 1),
        "right": rest[:, 0] / np.maximum(rest[:, 1], 1),
        "precision": np.where(is_present, hits / np.maximum(predicted, 1), np.nan),
        "recall": np.where(is_present, hits / np.maximum(support, 1), np.nan),
        "f1": np.where(is_present, f1, np.nan),
    }


def _independent_units(
    targets: NDArray[np.bool_], preds: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> dict[str, NDArray[np.float64]]:
    """Return how many images, or groups, each score is based on.

    A mean over classes is based on as many as have the variance of the mean: the squared number of
    classes, divided by the sum of 1 / images of the class.
    """
    support, predicted = (np.maximum(_count(chosen, groups), 1) for chosen in (targets, preds))
    present = targets.any(axis=0)
    return {
        "f1_macro": present.sum() ** 2 / (1 / support[present]).sum(),
        "right": _count(np.ones((len(targets), 1), bool), groups)[0],
        "precision": predicted,
        "recall": support,
        "f1": (support + predicted) / 2,
    }


def _wrong_units(
    targets: NDArray[np.bool_], preds: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> dict[str, NDArray[np.float64]]:
    """Return how many images, or groups, lower each score."""
    wrong = _count((targets != preds).any(axis=1, keepdims=True), groups)[0]
    return {
        "f1_macro": wrong,
        "right": wrong,
        "precision": _count(preds & ~targets, groups),
        "recall": _count(targets & ~preds, groups),
        "f1": _count(targets != preds, groups),
    }


def _count(chosen: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the number of images, or of groups with such an image, of each column."""
    if groups is None:
        return chosen.sum(axis=0).astype(np.float64)
    images, columns = np.nonzero(chosen)
    columns = np.unique(np.stack([groups[images], columns]), axis=1)[1]
    return np.bincount(columns, minlength=chosen.shape[1]).astype(np.float64)
