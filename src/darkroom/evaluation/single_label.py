"""The evaluation of a model that predicts one class per image."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.errors import counted
from darkroom.evaluation.evaluation import Evaluation
from darkroom.metrics.calibration import Reliability, class_reliability


class SingleLabelEvaluation(Evaluation):
    """Predictions and scores of a model that predicts one class per image."""

    @cached_property
    def preds(self) -> Tensor:
        """The most probable classes, int64 ``(n,)``."""
        return self.probabilities.argmax(dim=1)

    def reliability(self, probabilities: Tensor) -> Reliability:
        """Return the reliability of the predicted classes."""
        return class_reliability(self.targets.numpy(), probabilities.numpy())

    @property
    def truth_probabilities(self) -> Tensor:
        return self.probabilities.gather(1, self.targets[:, None])[:, 0]

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
        return "Number of images by true class (rows) and predicted class (columns)."

    @property
    def hardest_caption(self) -> str:
        return (
            "The images whose true class has the lowest probability. Each caption shows the true class, "
            "its probability and the wrong prediction."
        )
