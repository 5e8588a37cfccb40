"""The evaluation of a model that predicts any number of labels per image.

Targets are ``(n, num_classes)`` of 0 and 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config.evaluate import Evaluate
from darkroom.errors import counted
from darkroom.evaluation.confusions import most_mistaken
from darkroom.evaluation.evaluation import Evaluation, Figures
from darkroom.evaluation.figures import draw_label_counts
from darkroom.evaluation.label_answers import LabelRules, learn_label_rules
from darkroom.evaluation.regression import Probabilities, Vectors, label_regressions
from darkroom.metrics.calibration import Reliability, label_calibration, reliability
from darkroom.metrics.counts import Counts, averaged_scores, counts_of_labels
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.multi_label import best_thresholds, exact_matches, labels_at
from darkroom.metrics.multi_label_classification import confused_labels, multi_label_metrics
from darkroom.models.spec import ModelSpec
from darkroom.reporting.tables import write_csv

NO_LABEL = "no label"


@dataclass(frozen=True)
class SeveralLabelsEvaluation(Evaluation):
    """Predictions and scores of a model that predicts any number of labels per image."""

    thresholds: tuple[float, ...]
    """The lowest probability at which each label is predicted, 0..1."""

    @cached_property
    def preds(self) -> Tensor:
        """The labels whose probability reaches their threshold, bool ``(n, num_classes)``."""
        return labels_at(self.thresholds, self.probabilities)

    @property
    def own_thresholds(self) -> list[float]:
        return list(self.thresholds)

    def indicators(self, labels: Tensor) -> Tensor:
        return labels.bool()

    def reliability(self, probabilities: Tensor) -> Reliability:
        """Return the reliability of the probabilities of all labels together."""
        return reliability(probabilities.flatten().numpy(), self.targets.bool().flatten().numpy())

    @property
    def truth_probabilities(self) -> Tensor:
        return truth_probabilities(self.targets, self.probabilities).prod(dim=1)

    @property
    def confidences(self) -> Tensor:
        return truth_probabilities(self.preds, self.probabilities).prod(dim=1)

    @property
    def true_indices(self) -> list[Any]:
        return [row.nonzero()[0].tolist() for row in self.targets.numpy()]

    @property
    def predicted_indices(self) -> list[Any]:
        return [row.nonzero()[0].tolist() for row in self.preds.numpy()]

    @property
    def explained(self) -> Tensor:
        """The label whose probability is farthest from the truth."""
        return (self.probabilities - self.targets).abs().argmax(dim=1)

    @property
    def explained_description(self) -> str:
        return "the label whose probability is farthest from the truth"

    @property
    def truth_groups(self) -> NDArray[np.int64]:
        return np.unique(self.targets.numpy(), axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def confused_names(self) -> list[str]:
        """The labels, and for images without a label a name that differs from all of them."""
        no_label = NO_LABEL
        while no_label in self.class_names:
            no_label = f"({no_label})"
        return [*self.class_names, no_label]

    @cached_property
    def confused_pairs(self) -> list[tuple[int, int]]:
        return confused_labels(self.targets, self.preds)

    @cached_property
    def label_counts(self) -> Counts:
        return counts_of_labels(self.targets, self.preds)

    def prediction_columns(self) -> dict[str, Any]:
        """Return labels, preds and correct."""
        return {
            "labels": [self._names_of(row) for row in self.targets],
            "preds": [self._names_of(row) for row in self.preds],
            "correct": (self.preds == self.targets.bool()).all(dim=1).numpy(),
        }

    def truth(self, index: int) -> str:
        return "|".join(self._names_of(self.targets[index])) or NO_LABEL

    def mistakes(self, index: int) -> list[str]:
        true, pred = self.targets[index].bool(), self.preds[index]
        labels = {"missed": true & ~pred, "wrong": ~true & pred}
        return [
            f"{mistake}: {'|'.join(self._names_of(row))}" for mistake, row in labels.items() if row.any()
        ]

    @property
    def target_description(self) -> str:
        return f"{counted(len(self.class_names), 'label')}, any number of them per {self.inputs.one}"

    @property
    def confusion_caption(self) -> str:
        return (
            "Rows are true labels, columns are predicted labels. A missed label is counted against each "
            f"wrong prediction for the same {self.inputs.one}; if there is none, against "
            f"{self.confused_names[-1]!r}."
        )

    @property
    def hardest_caption(self) -> str:
        return (
            f"The {self.inputs.several} whose true labels have the lowest probability. Each caption"
            " shows the true labels, their joint probability and the mistakes."
        )

    @property
    def label_counts_rows(self) -> list[tuple[str, int, int, int]]:
        counts = self.label_counts
        cases = (counts.true_positives, counts.false_negatives, counts.false_positives)
        return list(zip(self.class_names, *(case.tolist() for case in cases), strict=True))

    def write_own_plots(self, folder: Path) -> None:
        """Write the numbers of right and wrong predictions of each label: labels.csv and labels.png."""
        counts = self.label_counts
        columns = {name: values.tolist() for name, values in counts._asdict().items()}
        write_csv(
            ("label", "threshold", *columns),
            zip(self.class_names, self.thresholds, *columns.values(), strict=True),
            folder / "labels.csv",
        )
        shown = most_mistaken(counts)
        draw_label_counts(
            correct=counts.true_positives[shown].tolist(),
            wrong=counts.false_positives[shown].tolist(),
            missed=counts.false_negatives[shown].tolist(),
            class_names=[self.class_names[label] for label in shown],
            path=folder / "labels.png",
            unit=self.inputs.several,
        )

    def own_sections(self, plots: Path) -> Iterator[tuple[str, Figures]]:
        num_shown, num_labels = len(most_mistaken(self.label_counts)), len(self.class_names)
        which = (
            "All labels" if num_shown == num_labels else f"The {num_shown} labels with the most mistakes"
        )
        caption = f"{which}: number of {self.inputs.several} with correct, missed and wrong predictions"
        yield "Correct, missed and wrong labels", [(caption, plots / "labels.png")]

    def _names_of(self, labels: Tensor) -> list[str]:
        return [self.class_names[index] for index in labels.nonzero()[:, 0].tolist()]


def scores(spec: ModelSpec, targets: Tensor, probabilities: Tensor) -> dict[str, Any]:
    assert spec.thresholds is not None
    return multi_label_metrics(targets, probabilities, spec.thresholds, list(spec.class_names))


def calibration(targets: Tensor, probabilities: Tensor) -> dict[str, float]:
    return label_calibration(targets.bool().numpy(), probabilities.numpy())


def temperature(spec: ModelSpec) -> list[float]:
    return list(spec.temperature)


def evaluation(
    spec: ModelSpec,
    targets: Tensor,
    probabilities: Tensor,
    uncalibrated: Tensor,
    metrics: dict[str, Any],
) -> Evaluation:
    assert spec.thresholds is not None
    names = list(spec.class_names)
    return SeveralLabelsEvaluation(names, targets, probabilities, uncalibrated, metrics, spec.thresholds)


def learn_rules(spec: ModelSpec, validation: Path, options: Evaluate) -> LabelRules:
    return learn_label_rules(spec, validation, options)


def thresholds(targets: Tensor, probabilities: Tensor) -> list[float]:
    return best_thresholds(targets, probabilities)


def preds(probabilities: Tensor, thresholds: list[float] | None) -> Tensor:
    """Return the labels whose probability reaches their threshold, bool ``(n, num_classes)``."""
    return labels_at(thresholds or (), probabilities)


def truth_probabilities(targets: Tensor, probabilities: Tensor) -> Tensor:
    return torch.where(targets.bool(), probabilities, 1 - probabilities)


def brief_scores(targets: Tensor, preds: Tensor, num_classes: int) -> dict[str, float | None]:
    f1 = averaged_scores(counts_of_labels(targets, preds))["f1_macro"]
    return {"exact_match": round(exact_matches(targets, preds), DIGITS), "f1_macro": f1}


def first_of_each(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return labels.argmax(axis=0)[labels.any(axis=0)]


def regressions(
    vectors: Vectors, labels: NDArray[np.uint8], num_classes: int
) -> Iterator[tuple[float, Probabilities]]:
    """Yield one binary regression per label."""
    return label_regressions(vectors, labels)
