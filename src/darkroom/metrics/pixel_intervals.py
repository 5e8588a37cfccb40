"""Confidence intervals of the scores of masks, by a bootstrap over images or groups of images.

Pixels of an image are alike, so images are resampled, with all their pixels. As in ``intervals.py``, the
variance tells how many independent trials would give the same certainty, for Wilson's interval.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from darkroom.metrics.intervals import FEW_ERRORS, Bounds, bootstrap_variances, wilson
from darkroom.metrics.pixels import PixelCounts
from darkroom.metrics.resampling import Units


def pixel_intervals(counts: PixelCounts, groups: NDArray[np.int64] | None = None) -> dict[str, Bounds]:
    """Return the 95 % intervals of the scores of one model.

    The same input always gives the same result.

    Args:
        counts: at least one pixel that is not void.
        groups: the group of each image, 0 to ``num_groups - 1``, int64 ``(n,)``, if images of a group
            are alike; None: each image is by itself.

    Returns:
        ``accuracy``, ``iou_macro`` and ``f1_macro``, ``(2,)`` each; ``precision``, ``recall``, ``f1``
        and ``iou`` of each class, ``(2, num_classes)``, NaN for a class without pixels.
    """
    table = np.concatenate([counts.support, counts.hits, counts.predicted], axis=1).astype(np.float64)
    table = table[table.any(axis=1)] if groups is None else _summed(table, groups)
    units = Units(sparse.csr_matrix(table), np.ones(len(table), np.int64), [np.arange(len(table))])
    variances = bootstrap_variances(units, _scores)
    showing = (table[:, : counts.support.shape[1]] > 0).sum(axis=0)
    bounds = {}
    for name, [score] in _scores(table.sum(axis=0, keepdims=True)).items():
        num_units = np.maximum(showing if np.ndim(score) else len(table), 1)
        # resamples of n units vary by (n - 1) / n too little
        variance = variances[name] * num_units / np.maximum(num_units - 1, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = score * (1 - score) / variance
        # the variance of a handful of images is too uncertain, and it may be 0
        is_certain = (size > 0) & np.isfinite(size)
        at_most = np.where(is_certain & (num_units >= FEW_ERRORS), np.inf, num_units)
        bounds[name] = wilson(score, np.where(is_certain, np.minimum(size, at_most), num_units))
    return bounds


def _summed(table: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of the rows of each group."""
    sums = np.zeros((int(groups.max()) + 1, table.shape[1]))
    np.add.at(sums, groups, table)
    return sums[sums.any(axis=1)]


def _scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return scores by the rules of ``pixel_scores.py``, ``(m,)`` or ``(m, num_classes)``."""
    support, hits, predicted = np.split(sums, 3, axis=1)
    is_present = support > 0
    either = np.maximum(support + predicted, 1)
    by_class = {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / either,
        "iou": hits / np.maximum(either - hits, 1),
    }
    num_present = np.maximum(is_present.sum(axis=1), 1)
    macro = {
        f"{name}_macro": (by_class[name] * is_present).sum(axis=1) / num_present
        for name in ("f1", "iou")
    }
    accuracy = hits.sum(axis=1) / np.maximum(support.sum(axis=1), 1)
    classes = {name: np.where(is_present, values, np.nan) for name, values in by_class.items()}
    return {"accuracy": accuracy, **macro, **classes}
