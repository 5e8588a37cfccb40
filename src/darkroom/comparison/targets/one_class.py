"""The comparison of models that predict one class per image."""

from typing import Any

from numpy.typing import NDArray

from darkroom.comparison.label_outcomes import LabelComparison
from darkroom.metrics.calibration import class_calibration
from darkroom.targets import WORDS


def _calibration(targets: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    return class_calibration(targets.argmax(axis=1), probabilities)


COMPARISON = LabelComparison(WORDS["one_class"].columns, _calibration)
