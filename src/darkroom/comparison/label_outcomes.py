"""What comparisons of both kinds of labels have in common: an image is right or wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.metrics.paired import Paired, label_units, mcnemar
from darkroom.metrics.resampling import Units

if TYPE_CHECKING:
    from darkroom.comparison.predictions import Predictions

CLASS_TEST = "McNemar's exact test on the decisions about the class"


def read_labels(table: pa.Table, names: Sequence[str], columns: tuple[str, str]) -> list[NDArray[Any]]:
    """Return targets, hits, preds and probabilities; see ``ComparedTarget.read``.

    Args:
        columns: of truth and prediction.
    """
    targets, preds = (_indicators(table[column].to_pylist(), names) for column in columns)
    probabilities = np.array(table["probabilities"].to_pylist(), dtype=np.float64)
    if probabilities.shape != targets.shape:
        raise ValueError(f"probabilities of {probabilities.shape}, {len(names)} classes")
    return [targets, targets & preds, preds, probabilities]


def _indicators(cells: Sequence[Any], names: Sequence[str]) -> NDArray[np.bool_]:
    positions = {name: index for index, name in enumerate(names)}
    indicators = np.zeros((len(cells), len(names)), dtype=np.bool_)
    for row, cell in enumerate(cells):
        for name in cell if isinstance(cell, list) else [cell]:
            indicators[row, positions[name]] = True
    return indicators


def units(first: "Predictions", second: "Predictions", groups: NDArray[np.int64] | None) -> Units:
    return label_units(first.targets, first.preds, second.preds, groups)


def score(predictions: "Predictions") -> float:
    """Return the fraction of the images whose class, or every label, is right."""
    return float(predictions.correct.mean())


def only_right(first: "Predictions", second: "Predictions") -> tuple[int, int, float]:
    return mcnemar(first.correct, second.correct)


def class_p_values(
    first: "Predictions", second: "Predictions", paired: Paired, classes: Sequence[int]
) -> list[float]:
    """Return the p-values of McNemar's exact test."""
    return [
        mcnemar(*(one.preds[:, index] == one.targets[:, index] for one in (first, second)))[2]
        for index in classes
    ]
