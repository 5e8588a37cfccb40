"""The comparison of models that predict one class per image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from numpy.typing import NDArray

from darkroom.comparison.label_outcomes import (
    CLASS_TEST,
    class_p_values,
    only_right,
    read_labels,
    score,
    units,
)
from darkroom.metrics.calibration import class_calibration
from darkroom.targets import WORDS

if TYPE_CHECKING:
    from darkroom.comparison.predictions import Predictions

__all__ = [
    "calibration",
    "class_p_values",
    "class_test",
    "only_right",
    "read",
    "score",
    "score_name",
    "units",
]

class_test = CLASS_TEST
score_name = "accuracy"


def read(table: pa.Table, names: Sequence[str]) -> list[NDArray[Any]]:
    return read_labels(table, names, WORDS["one_class"].columns)


def calibration(predictions: "Predictions") -> dict[str, float]:
    return class_calibration(predictions.targets.argmax(axis=1), predictions.probabilities)
