"""Areas under the ROC and precision-recall curves."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.metrics.digits import DIGITS


def ranking_areas(positive: Tensor, probabilities: Tensor) -> dict[str, list[float | None]]:
    """Return ROC AUC and average precision of each class against the rest.

    These are scikit-learn's ``roc_auc_score`` and ``average_precision_score``.

    Args:
        positive: bool ``(n, num_classes)``, whether an image has the class.
        probabilities: float ``(n, num_classes)``, 0..1.

    Returns:
        ``roc_auc`` and ``average_precision``: a value in 0..1 per class, rounded to six digits; None
        for a class that all images or no images have, because there is nothing to rank.
    """
    areas: dict[str, list[float | None]] = {"roc_auc": [], "average_precision": []}
    for has_it, scores in zip(positive.cpu().numpy().T, probabilities.cpu().numpy().T, strict=True):
        found = _areas(has_it, scores) if 0 < has_it.sum() < len(has_it) else (None, None)
        for values, area in zip(areas.values(), found, strict=True):
            values.append(None if area is None else round(area, DIGITS))
    return areas


def _areas(has_it: NDArray[np.bool_], scores: NDArray[np.floating]) -> tuple[float, float]:
    """Return ROC AUC, by the trapezoidal rule, and average precision of one class.

    Args:
        has_it: ``(n,)``, neither all true nor all false.
        scores: ``(n,)``.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(has_it[order])[last_of_equals]
    num_alarms = last_of_equals + 1 - hits
    new_hits, new_alarms = (np.diff(counts, prepend=0) for counts in (hits, num_alarms))
    roc_auc = (new_alarms * (hits - new_hits / 2)).sum() / (hits[-1] * num_alarms[-1])
    average_precision = (new_hits * hits / (last_of_equals + 1)).sum() / hits[-1]
    return float(roc_auc), float(average_precision)


def mean_area(areas: list[float | None]) -> float | None:
    """Return the mean of the areas that are defined, rounded to six digits; None if none is."""
    defined = [area for area in areas if area is not None]
    return round(sum(defined) / len(defined), DIGITS) if defined else None
