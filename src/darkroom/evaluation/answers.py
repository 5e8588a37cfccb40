"""When a model should not answer, and which classes are possible: chosen on validation images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.config.evaluate import Evaluate
from darkroom.metrics.conformal import SetThresholds, prediction_sets, set_thresholds
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.selective import answers_at, precise_threshold, risk_area
from darkroom.models.spec import ModelSpec


class Rules(Protocol):
    """When a model abstains, for any kind of target."""

    def measure(
        self, targets: NDArray[Any], probabilities: NDArray[np.float64]
    ) -> dict[str, dict[str, Any]]:
        """Return the entries ``abstention`` and ``conformal`` of metrics.json.

        Args:
            targets: of test images, as the shards store them.
            probabilities: of the exported model, ``(n, num_classes)``.
        """
        ...


@dataclass(frozen=True)
class AnswerRules:
    """The threshold of confidence and those of prediction sets, for one class per image."""

    class_names: tuple[str, ...]
    num_images: int
    """Number of validation images."""
    target_precision: float | None
    threshold: float | None
    """The lowest confidence that gets an answer; None if no threshold reaches the precision."""
    target_coverage: float | None
    sets: SetThresholds | None
    """None if no coverage was asked for."""

    def measure(
        self, targets: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> dict[str, dict[str, Any]]:
        """Return the entries ``abstention`` and ``conformal`` of metrics.json.

        Args:
            targets: true classes of test images, ``(n,)``.
            probabilities: of the exported model, ``(n, num_classes)``.
        """
        conformal = self._measure_sets(targets, probabilities)
        return {
            "abstention": self._measure_abstention(targets, probabilities),
            **({"conformal": conformal} if conformal else {}),
        }

    def _measure_abstention(
        self, targets: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> dict[str, Any]:
        confidences, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
        values: dict[str, Any] = {"aurc": round(risk_area(confidences, is_correct), DIGITS)}
        if self.target_precision is None:
            return values
        values |= {
            "target_precision": self.target_precision,
            "threshold": self.threshold,
            "val_images": self.num_images,
            "coverage": 0.0,
            "precision": None,
        }
        if self.threshold is None:
            return values
        answers = answers_at(self.threshold, confidences, is_correct)
        values["coverage"] = round(answers.num_answered / len(targets), DIGITS)
        if answers.precision is not None:
            low, high = answers.precision_interval()
            values["precision"] = round(answers.precision, DIGITS)
            values |= {"precision_low": round(low, DIGITS), "precision_high": round(high, DIGITS)}
        return values

    def _measure_sets(
        self, targets: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> dict[str, Any]:
        if self.sets is None:
            return {}
        sets = prediction_sets(probabilities, self.sets.thresholds)
        is_covered = sets[np.arange(len(targets)), targets]
        rows = []
        for label, name in enumerate(self.class_names):
            own = is_covered[targets == label]
            rows.append(
                {
                    "class": name,
                    "threshold": float(self.sets.thresholds[label]),
                    "coverage": round(float(own.mean()), DIGITS) if own.size else None,
                    "is_marginal": bool(self.sets.is_marginal[label]),
                }
            )
        return {
            "target_coverage": self.target_coverage,
            "coverage": round(float(is_covered.mean()), DIGITS),
            "mean_set_size": round(float(sets.sum(axis=1).mean()), DIGITS),
            "empty_sets": round(float((~sets.any(axis=1)).mean()), DIGITS),
            "classes": rows,
        }


def learn_rules(spec: ModelSpec, validation: Path, options: Evaluate) -> AnswerRules:
    """Return the rules for one class per image that validation images support.

    Args:
        validation: the table that ``train`` writes.
    """
    precision, coverage, names = options.target_precision, options.coverage, spec.class_names
    table = pd.read_parquet(validation, columns=["label", "correct", "probability", "label_probability"])
    confidences, own = (
        table[column].to_numpy(np.float64) for column in ("probability", "label_probability")
    )
    threshold = sets = None
    if precision is not None:
        threshold = precise_threshold(confidences, table["correct"].to_numpy(bool), precision)
    if coverage is not None:
        labels = pd.Categorical(table["label"], categories=list(names)).codes.astype(np.int64)
        sets = set_thresholds(labels, own, len(names), coverage)
    return AnswerRules(names, len(table), precision, threshold, coverage, sets)
