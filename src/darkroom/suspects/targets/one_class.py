"""Wrong labels of images with one class each: labels are int64 ``(n,)``."""

import numpy as np
from numpy.typing import NDArray

from darkroom.suspects.confident import Doubts, Probabilities, doubts_about


def doubts(
    labels: NDArray[np.int64],
    probabilities: Probabilities,
    names: NDArray[np.object_],
    separator: str,
) -> tuple[Doubts, list[str], list[str]]:
    found = doubts_about(labels, probabilities)
    return found, names[labels].tolist(), names[found.suggested].tolist()


def can_be_judged(
    labels: NDArray[np.int64], folds: NDArray[np.int64], num_classes: int
) -> NDArray[np.bool_]:
    """Return which images have a class that also occurs in other folds."""
    counts = np.zeros((folds.max() + 1, num_classes), np.int64)
    np.add.at(counts, (folds, labels), 1)
    return (counts.sum(axis=0) - counts[folds])[np.arange(len(labels)), labels] > 0
