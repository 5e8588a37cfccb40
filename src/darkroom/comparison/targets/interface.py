"""What a kind of target says about the comparison of two models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.comparison.targets import mask, one_class, several_labels
from darkroom.metrics.paired import Paired
from darkroom.metrics.resampling import Units
from darkroom.targets import Target

if TYPE_CHECKING:
    from darkroom.comparison.predictions import Predictions


class ComparedTarget(Protocol):
    """One for each kind: a module, or an instance of ``LabelComparison``."""

    class_test: str
    """What the p-value of a class comes from."""
    score_name: str
    """The name of ``score`` in JSON."""

    def read(self, table: pa.Table, names: Sequence[str]) -> list[NDArray[Any]]:
        """Return targets, hits, preds and probabilities of predictions.parquet, as in ``Predictions``.

        Raises:
            ValueError, KeyError: the table does not fit the classes.
        """
        ...

    def units(
        self, first: "Predictions", second: "Predictions", groups: NDArray[np.int64] | None
    ) -> Units:
        """Return what is drawn, with the columns that ``compare_units`` adds up."""
        ...

    def score(self, predictions: "Predictions") -> float:
        """Return the first of the scores in ``WORDS``."""
        ...

    def only_right(self, first: "Predictions", second: "Predictions") -> tuple[int, int, float] | None:
        """Return as ``mcnemar``, for images that are right; None if images are not right or wrong."""
        ...

    def class_p_values(
        self, first: "Predictions", second: "Predictions", paired: Paired, classes: Sequence[int]
    ) -> list[float]:
        """Return the p-values of the differences of classes, not corrected for their number."""
        ...

    def calibration(self, predictions: "Predictions") -> dict[str, float]:
        """Return ``nll``, ``brier`` and ``ece`` of a model's probabilities, as in metrics.json; empty if
        there are none."""
        ...


_TARGETS: dict[Target, ComparedTarget] = {
    "one_class": one_class.COMPARISON,
    "several_labels": several_labels.COMPARISON,
    "mask": mask,
}


def compared_target(name: Target) -> ComparedTarget:
    """Return the comparison of a kind of target."""
    return _TARGETS[name]
