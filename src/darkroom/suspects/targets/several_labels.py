"""Wrong labels of images with any number of them: labels are uint8 ``(n, num_classes)`` of 0 and 1."""

import numpy as np
from numpy.typing import NDArray

from darkroom.suspects.confident import Doubts, Probabilities, doubts_about_labels


def doubts(
    labels: NDArray[np.uint8],
    probabilities: Probabilities,
    names: NDArray[np.object_],
    separator: str,
) -> tuple[Doubts, list[str], list[str]]:
    found, changed = doubts_about_labels(labels, probabilities)
    given, suggested = (
        [separator.join(names[row == 1]) for row in table] for table in (labels, changed)
    )
    return found, given, suggested


def can_be_judged(
    labels: NDArray[np.uint8], folds: NDArray[np.int64], num_classes: int
) -> NDArray[np.bool_]:
    """Return true for all images: that a label is absent is also learnt from the other folds."""
    return np.ones(len(labels), bool)
