"""The evaluation of a model that predicts one class per image: targets are int64 ``(n,)``."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.errors import counted
from darkroom.evaluation.answers import learn_rules as learn_rules
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.regression import Probabilities, Vectors, class_regressions
from darkroom.evaluation.risk import write_risk
from darkroom.metrics.calibration import Reliability, class_calibration, class_reliability
from darkroom.metrics.classification import classification_metrics
from darkroom.metrics.confusion import accuracy, confusion_matrix
from darkroom.metrics.counts import averaged_scores, counts_of_classes
from darkroom.metrics.digits import DIGITS
from darkroom.models.spec import ModelSpec


class OneClassEvaluation(Evaluation):
    """Predictions and scores of a model that predicts one class per image."""

    @cached_property
    def preds(self) -> Tensor:
        """The most probable classes, int64 ``(n,)``."""
        return preds(self.probabilities, None)

    def indicators(self, labels: Tensor) -> Tensor:
        return labels[:, None] == torch.arange(len(self.class_names))

    def reliability(self, probabilities: Tensor) -> Reliability:
        """Return the reliability of the predicted classes."""
        return class_reliability(self.targets.numpy(), probabilities.numpy())

    @property
    def truth_probabilities(self) -> Tensor:
        return truth_probabilities(self.targets, self.probabilities)

    @property
    def confidences(self) -> Tensor:
        return self.probabilities.amax(dim=1)

    @property
    def true_indices(self) -> list[Any]:
        return self.targets.tolist()

    @property
    def predicted_indices(self) -> list[Any]:
        return self.preds.tolist()

    @property
    def explained(self) -> Tensor:
        """The prediction."""
        return self.preds

    @property
    def explained_description(self) -> str:
        return "the predicted class"

    @property
    def truth_groups(self) -> NDArray[np.int64]:
        return self.targets.numpy()

    @property
    def confused_names(self) -> list[str]:
        return self.class_names

    @cached_property
    def confused_pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.targets.tolist(), self.preds.tolist(), strict=True))

    def prediction_columns(self) -> dict[str, Any]:
        """Return label, pred, correct and probability."""
        names = np.array(self.class_names, dtype=object)
        return {
            "label": names[self.targets.numpy()],
            "pred": names[self.preds.numpy()],
            "correct": (self.preds == self.targets).numpy(),
            "probability": self.probabilities.amax(dim=1).float().numpy(),
        }

    def truth(self, index: int) -> str:
        return self.class_names[self.targets[index]]

    def mistakes(self, index: int) -> list[str]:
        target, pred = self.targets[index], self.preds[index]
        return [] if pred == target else [f"predicted: {self.class_names[pred]}"]

    @property
    def target_description(self) -> str:
        return counted(len(self.class_names), "class")

    @property
    def confusion_caption(self) -> str:
        return f"Number of {self.inputs.several} by true class (rows) and predicted class (columns)."

    @property
    def hardest_caption(self) -> str:
        return (
            f"The {self.inputs.several} whose true class has the lowest probability. Each caption"
            " shows the true class, its probability and the wrong prediction."
        )

    def write_own_plots(self, folder: Path) -> None:
        """Write the risk at each coverage."""
        is_right = (self.preds == self.targets).numpy()
        write_risk(self.confidences.numpy(), is_right, folder, self.inputs.several)


def scores(spec: ModelSpec, targets: Tensor, probabilities: Tensor) -> dict[str, Any]:
    return classification_metrics(targets, probabilities, list(spec.class_names))


def calibration(targets: Tensor, probabilities: Tensor) -> dict[str, float]:
    return class_calibration(targets.numpy(), probabilities.numpy())


def temperature(spec: ModelSpec) -> float:
    return spec.temperature[0]


def evaluation(
    spec: ModelSpec,
    targets: Tensor,
    probabilities: Tensor,
    uncalibrated: Tensor,
    metrics: dict[str, Any],
) -> Evaluation:
    return OneClassEvaluation(list(spec.class_names), targets, probabilities, uncalibrated, metrics)


def thresholds(targets: Tensor, probabilities: Tensor) -> None:
    return None


def preds(probabilities: Tensor, thresholds: list[float] | None) -> Tensor:
    """Return the most probable classes, int64 ``(n,)``."""
    return probabilities.argmax(dim=1)


def truth_probabilities(targets: Tensor, probabilities: Tensor) -> Tensor:
    return probabilities.gather(1, targets[:, None])[:, 0]


def brief_scores(targets: Tensor, preds: Tensor, num_classes: int) -> dict[str, float | None]:
    confusion = confusion_matrix(targets, preds, num_classes)
    f1 = averaged_scores(counts_of_classes(confusion))["f1_macro"]
    return {"accuracy": round(accuracy(confusion), DIGITS), "f1_macro": f1}


def first_of_each(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(labels, return_index=True)[1]


def regressions(
    vectors: Vectors, labels: NDArray[np.int64], num_classes: int
) -> Iterator[tuple[float, Probabilities]]:
    """Yield multinomial regressions."""
    return class_regressions(vectors, labels, num_classes)
