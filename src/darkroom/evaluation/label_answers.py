"""When a model should leave a label open, and which labels are possible: chosen on validation images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.config.evaluate import Evaluate
from darkroom.metrics.conformal import SetThresholds, label_set_thresholds, prediction_sets
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.selective import DecisionThresholds, decision_thresholds
from darkroom.models.spec import ModelSpec

Flags = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelRules:
    """The thresholds of sure decisions and those of possible labels, for each label."""

    class_names: tuple[str, ...]
    num_images: int
    """Number of validation images."""
    target_precision: float | None
    decisions: list[DecisionThresholds]
    """Empty if no precision was asked for."""
    target_coverage: float | None
    sets: SetThresholds | None
    """None if no coverage was asked for."""

    def measure(self, targets: NDArray[Any], probabilities: Array) -> dict[str, dict[str, Any]]:
        """Return the entries ``abstention`` and ``conformal`` of metrics.json, if they were asked for.

        Args:
            targets: true labels of test images, ``(n, num_labels)`` of 0 and 1.
            probabilities: of the exported model, ``(n, num_labels)``.
        """
        has_it = targets.astype(bool)
        measured = {}
        if self.decisions:
            measured["abstention"] = self._measure_decisions(has_it, probabilities)
        if self.sets is not None:
            measured["conformal"] = self._measure_sets(has_it, probabilities, self.sets)
        return measured

    def _measure_decisions(self, has_it: Flags, probabilities: Array) -> dict[str, Any]:
        # no probability reaches 2, and none is at most -1
        yes = probabilities >= [2.0 if one.yes is None else one.yes for one in self.decisions]
        no = ~yes & (probabilities <= [-1.0 if one.no is None else one.no for one in self.decisions])
        rows = [
            {
                "class": name,
                "yes": decision.yes,
                "no": decision.no,
                "coverage": _share((yes | no)[:, label]),
                "precision": _share(has_it[yes[:, label], label]),
            }
            for label, (name, decision) in enumerate(zip(self.class_names, self.decisions, strict=True))
        ]
        return {
            "target_precision": self.target_precision,
            "val_images": self.num_images,
            "coverage": _share(yes | no),
            "images_answered": _share((yes | no).all(axis=1)),
            "precision": _share(has_it[yes]),
            "precision_of_no": _share(~has_it[no]),
            "classes": rows,
        }

    def _measure_sets(self, has_it: Flags, probabilities: Array, sets: SetThresholds) -> dict[str, Any]:
        members = prediction_sets(probabilities, sets.thresholds)
        rows = [
            {
                "class": name,
                "threshold": float(sets.thresholds[label]),
                "coverage": _share(members[has_it[:, label], label]),
                "is_marginal": bool(sets.is_marginal[label]),
            }
            for label, name in enumerate(self.class_names)
        ]
        return {
            "target_coverage": self.target_coverage,
            "coverage": _share(members[has_it]),
            "mean_set_size": round(float(members.sum(axis=1).mean()), DIGITS),
            "empty_sets": _share(~members.any(axis=1)),
            "classes": rows,
        }


def _share(flags: Flags | np.bool_) -> float | None:
    """Return the share of true flags; None if there are none at all."""
    return round(float(flags.mean()), DIGITS) if flags.size else None


def learn_label_rules(spec: ModelSpec, validation: Path, options: Evaluate) -> LabelRules:
    """Return the rules for several labels per image that validation images support.

    Args:
        validation: the table that ``train`` writes.
    """
    names, precision, coverage = spec.class_names, options.target_precision, options.coverage
    table = pq.read_table(validation, columns=["labels", "probabilities"])
    probabilities = np.array(table["probabilities"].to_pylist(), np.float64).reshape(-1, len(names))
    position = {name: index for index, name in enumerate(names)}
    has_it = np.zeros(probabilities.shape, bool)
    for row, labels in enumerate(table["labels"].to_pylist()):
        has_it[row, [position[label] for label in labels]] = True
    decisions = []
    if precision is not None:
        columns = zip(probabilities.T, has_it.T, spec.thresholds or (), strict=True)
        decisions = [decision_thresholds(*column, precision) for column in columns]
    sets = None if coverage is None else label_set_thresholds(has_it, probabilities, coverage)
    return LabelRules(names, len(table), precision, decisions, coverage, sets)
