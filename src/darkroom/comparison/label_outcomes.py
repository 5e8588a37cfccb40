"""The comparison of models that predict labels, where an image is right or wrong."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.metrics.paired import Paired, label_units, mcnemar
from darkroom.metrics.resampling import Units

if TYPE_CHECKING:
    from darkroom.comparison.predictions import Predictions


class LabelComparison:
    """The comparison of models that predict one class, or any number of labels, per image.

    Args:
        columns: of the truth and of the prediction in predictions.parquet.
        calibration_of: returns ``nll``, ``brier`` and ``ece`` for targets, bool ``(n, num_classes)``,
            and probabilities.
    """

    class_test: str = "McNemar's exact test on the decisions about the class"
    score_name: str = "accuracy"

    def __init__(
        self,
        columns: tuple[str, str],
        calibration_of: Callable[[NDArray[Any], NDArray[Any]], dict[str, float]],
    ) -> None:
        self._columns = columns
        self._calibration_of = calibration_of

    def read(self, table: pa.Table, names: Sequence[str]) -> list[NDArray[Any]]:
        """Return targets, hits, preds and probabilities; see ``ComparedTarget.read``."""
        targets, preds = (_indicators(table[column].to_pylist(), names) for column in self._columns)
        probabilities = np.array(table["probabilities"].to_pylist(), dtype=np.float64)
        if probabilities.shape != targets.shape:
            raise ValueError(f"probabilities of {probabilities.shape}, {len(names)} classes")
        return [targets, targets & preds, preds, probabilities]

    def units(
        self, first: "Predictions", second: "Predictions", groups: NDArray[np.int64] | None
    ) -> Units:
        """Return images, or groups of images."""
        return label_units(first.targets, first.preds, second.preds, groups)

    def score(self, predictions: "Predictions") -> float:
        """Return the fraction of the images whose class, or every label, is right."""
        return float(predictions.correct.mean())

    def only_right(self, first: "Predictions", second: "Predictions") -> tuple[int, int, float]:
        """Return as ``mcnemar``, for images that are right."""
        return mcnemar(first.correct, second.correct)

    def class_p_values(
        self, first: "Predictions", second: "Predictions", paired: Paired, classes: Sequence[int]
    ) -> list[float]:
        """Return the p-values of McNemar's exact test."""
        return [
            mcnemar(*(one.preds[:, index] == one.targets[:, index] for one in (first, second)))[2]
            for index in classes
        ]

    def calibration(self, predictions: "Predictions") -> dict[str, float]:
        """Return the calibration of a model's probabilities."""
        return self._calibration_of(predictions.targets, predictions.probabilities)


def _indicators(cells: Sequence[Any], names: Sequence[str]) -> NDArray[np.bool_]:
    positions = {name: index for index, name in enumerate(names)}
    indicators = np.zeros((len(cells), len(names)), dtype=np.bool_)
    for row, cell in enumerate(cells):
        for name in cell if isinstance(cell, list) else [cell]:
            indicators[row, positions[name]] = True
    return indicators
