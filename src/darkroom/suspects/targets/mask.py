"""Doubtful labels of masks: there are none, because suspects are images and not pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.suspects.confident import Doubts, Probabilities


def doubts(
    labels: NDArray[Any], probabilities: Probabilities, names: NDArray[np.object_], separator: str
) -> tuple[Doubts, list[str], list[str]]:
    raise _refused()


def can_be_judged(labels: NDArray[Any], folds: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
    raise _refused()


def _refused() -> UserError:
    """What ``LabelledImages`` and ``load_known`` say before any work."""
    return UserError("the labels of pixels are not judged")
