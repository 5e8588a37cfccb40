"""The evaluation of a model that predicts any number of labels per image."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.errors import counted
from darkroom.evaluation.evaluation import Evaluation
from darkroom.metrics.calibration import Reliability, reliability
from darkroom.metrics.counts import Counts, counts_of_labels
from darkroom.metrics.multi_label import labels_at
from darkroom.metrics.multi_label_classification import confused_labels

NO_LABEL = "no label"


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation):
    """Predictions and scores of a model that predicts any number of labels per image."""

    thresholds: tuple[float, ...]
    """The lowest probability at which each label is predicted, 0..1."""

    @cached_property
    def preds(self) -> Tensor:
        """The labels whose probability reaches their threshold, bool ``(n, num_classes)``."""
        return labels_at(self.thresholds, self.probabilities)

    def reliability(self, probabilities: Tensor) -> Reliability:
        """Return the reliability of the probabilities of all labels together."""
        return reliability(probabilities.flatten().numpy(), self.targets.bool().flatten().numpy())

    @property
    def truth_probabilities(self) -> Tensor:
        true = self.targets.bool()
        return torch.where(true, self.probabilities, 1 - self.probabilities).prod(dim=1)

    @property
    def confidences(self) -> Tensor:
        return torch.where(self.preds, self.probabilities, 1 - self.probabilities).prod(dim=1)

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
        return f"{counted(len(self.class_names), 'label')}, any number of them per image"

    @property
    def confusion_caption(self) -> str:
        return (
            "Rows are true labels, columns are predicted labels. A missed label is counted against each "
            "wrong prediction for the same image; if there is none, against "
            f"{self.confused_names[-1]!r}."
        )

    @property
    def hardest_caption(self) -> str:
        return (
            "The images whose true labels have the lowest probability. Each caption shows the true "
            "labels, their joint probability and the mistakes."
        )

    def _names_of(self, labels: Tensor) -> list[str]:
        return [self.class_names[index] for index in labels.nonzero()[:, 0].tolist()]
