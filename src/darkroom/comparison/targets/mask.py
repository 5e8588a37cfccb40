"""The comparison of models that predict masks, from the counts of pixels of each image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.metrics.paired import Paired, pixel_units
from darkroom.metrics.resampling import Units

if TYPE_CHECKING:
    from darkroom.comparison.predictions import Predictions

class_test: str = "a randomisation test, which exchanges the masks of images"
score_name: str = "iou_macro"


def read(table: pa.Table, names: Sequence[str]) -> list[NDArray[Any]]:
    counts = [
        np.array(table[name].to_pylist(), np.int64).reshape(-1, len(names))
        for name in ("support", "hits", "predicted")
    ]
    return [*counts, np.zeros((len(table), 0))]


def units(first: "Predictions", second: "Predictions", groups: NDArray[np.int64] | None) -> Units:
    """Return images, or groups of images, with all their pixels."""
    columns = [first.targets, first.hits, first.preds, second.hits, second.preds]
    return pixel_units(columns, groups)


def score(predictions: "Predictions") -> float:
    """Return the mean IoU over all pixels; 0 if all are void."""
    support, hits, preds = (
        counts.sum(axis=0) for counts in (predictions.targets, predictions.hits, predictions.preds)
    )
    is_present = support > 0
    ious = hits[is_present] / (support + preds - hits)[is_present]
    return float(ious.mean()) if len(ious) else 0.0


def only_right(first: "Predictions", second: "Predictions") -> None:
    """Return None: hardly a mask is right in every pixel."""


def class_p_values(
    first: "Predictions", second: "Predictions", paired: Paired, classes: Sequence[int]
) -> list[float]:
    p_values: list[float] = paired.class_p_values[classes].tolist()
    return p_values


def calibration(predictions: "Predictions") -> dict[str, float]:
    """Return nothing: the table has no probabilities of pixels."""
    return {}
