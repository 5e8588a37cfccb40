"""A model's predictions and scores on the test images, for any kind of target."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.inputs import InputWords, words_of_metrics
from darkroom.metrics.calibration import Reliability
from darkroom.metrics.confusion import confusion_matrix

Figures = Sequence[tuple[str, Path]]
"""(caption, PNG file)"""


@dataclass(frozen=True)
class Evaluation(ABC):
    """A model's predictions and scores on the test images; each kind of target has a subclass."""

    class_names: list[str]
    targets: Tensor
    """As in ``Batch``, on the CPU."""
    probabilities: Tensor
    """float64 ``(n, num_classes)``, 0..1."""
    uncalibrated: Tensor
    """The probabilities before the temperature was applied, as ``probabilities``."""
    metrics: dict[str, Any]
    """As ``EvaluationTarget.scores`` returns, and the scores of baselines."""
    unfamiliarity: NDArray[np.float32] | None = field(default=None, kw_only=True)
    """How much each image differs from the training images, ``(n,)``; above 1, it is unfamiliar; None:
    not measured."""

    @property
    def inputs(self) -> InputWords:
        """The words for what the model predicts from."""
        return words_of_metrics(self.metrics)

    @property
    @abstractmethod
    def preds(self) -> Tensor:
        """The predictions, in the shape of ``targets``."""

    @property
    def own_thresholds(self) -> list[float] | None:
        """The lowest probability at which each label is predicted; None if there are no thresholds."""
        return None

    @abstractmethod
    def indicators(self, labels: Tensor) -> Tensor:
        """Return targets or predictions as bool ``(n, num_classes)``."""

    @abstractmethod
    def reliability(self, probabilities: Tensor) -> Reliability:
        """Return how often decisions of similar confidence are correct.

        Args:
            probabilities: those after or before calibration.
        """

    @property
    @abstractmethod
    def truth_probabilities(self) -> Tensor:
        """The probability of each image's true class or set of labels, ``(n,)``."""

    @property
    @abstractmethod
    def confidences(self) -> Tensor:
        """The probability that the model gives to its own prediction for each image, ``(n,)``."""

    @property
    @abstractmethod
    def true_indices(self) -> list[Any]:
        """The true class of each image, or a list of its true labels."""

    @property
    @abstractmethod
    def predicted_indices(self) -> list[Any]:
        """The predicted class of each image, or a list of its predicted labels."""

    @property
    @abstractmethod
    def explained(self) -> Tensor:
        """The class of each image that its heatmap explains, int64 ``(n,)``."""

    @property
    @abstractmethod
    def explained_description(self) -> str:
        """What a heatmap speaks for, for the report."""

    @property
    @abstractmethod
    def truth_groups(self) -> NDArray[np.int64]:
        """A number for each image's true class or set of labels, ``(n,)``."""

    @property
    @abstractmethod
    def confused_names(self) -> list[str]:
        """The names of the rows and columns of ``confusion``."""

    @property
    @abstractmethod
    def confused_pairs(self) -> list[tuple[int, int]]:
        """The pairs of a true and a predicted class that ``confusion`` counts."""

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix as counts: rows are true classes, columns are predicted classes."""
        pairs = torch.tensor(self.confused_pairs, dtype=torch.int64).reshape(-1, 2)
        targets, preds = pairs.unbind(dim=1)
        return confusion_matrix(targets, preds, len(self.confused_names)).numpy()

    @abstractmethod
    def prediction_columns(self) -> dict[str, Any]:
        """Return the columns of predictions.parquet that depend on the kind of target."""

    @abstractmethod
    def truth(self, index: int) -> str:
        """Return the true class or labels of an image."""

    @abstractmethod
    def mistakes(self, index: int) -> list[str]:
        """Return the wrong predictions for an image, one phrase each."""

    @property
    @abstractmethod
    def target_description(self) -> str:
        """What the model predicts, for the report."""

    @property
    @abstractmethod
    def confusion_caption(self) -> str:
        """How to read the confusion matrix, for the report."""

    @property
    @abstractmethod
    def hardest_caption(self) -> str:
        """How to read the captions of the hardest images, for the report."""

    @property
    def label_counts_rows(self) -> list[tuple[str, int, int, int]]:
        """Name and number of correct, missed and wrong predictions of each label, for the report."""
        return []

    @abstractmethod
    def write_own_plots(self, folder: Path) -> None:
        """Write the tables and pictures that only this kind of target has."""

    def own_sections(self, plots: Path) -> Iterator[tuple[str, Figures]]:
        """Yield headings with captioned figures that only this kind of target has, for the report.

        Args:
            plots: the folder of ``write_own_plots``.
        """
        yield from ()
