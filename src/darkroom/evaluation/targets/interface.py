"""What a kind of target says about evaluation: scores, calibration, abstention, baselines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config.evaluate import Evaluate
from darkroom.errors import UserError
from darkroom.evaluation.answers import Rules
from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.regression import Probabilities, Vectors
from darkroom.evaluation.targets import one_class, several_labels
from darkroom.models.spec import ModelSpec
from darkroom.targets import WORDS, Target


class EvaluationTarget(Protocol):
    """A module for each kind that is decided per image; ``evaluations.py`` has the others.

    Targets are as the shards store them, one row per image.
    """

    def scores(self, spec: ModelSpec, targets: Tensor, probabilities: Tensor) -> dict[str, Any]:
        """Return the scores of a split, with ``per_class``, as in metrics.json."""
        ...

    def calibration(self, targets: Tensor, probabilities: Tensor) -> dict[str, float]:
        """Return ``nll``, ``brier`` and ``ece``."""
        ...

    def temperature(self, spec: ModelSpec) -> Any:
        """Return the temperature as metrics.json has it."""
        ...

    def evaluation(
        self,
        spec: ModelSpec,
        targets: Tensor,
        probabilities: Tensor,
        uncalibrated: Tensor,
        metrics: dict[str, Any],
    ) -> Evaluation:
        """Return the evaluation with these values."""
        ...

    def learn_rules(self, spec: ModelSpec, validation: Path, options: Evaluate) -> Rules:
        """Return when a model abstains, as validation images support it.

        Args:
            validation: the table that ``train`` writes.
        """
        ...

    def thresholds(self, targets: Tensor, probabilities: Tensor) -> list[float] | None:
        """Return the best threshold of each label; None if predictions need none."""
        ...

    def preds(self, probabilities: Tensor, thresholds: list[float] | None) -> Tensor:
        """Return the predictions, in the shape of targets."""
        ...

    def truth_probabilities(self, targets: Tensor, probabilities: Tensor) -> Tensor:
        """Return the probability of each true decision, ``(n,)`` or ``(n, num_classes)``."""
        ...

    def brief_scores(self, targets: Tensor, preds: Tensor, num_classes: int) -> dict[str, float | None]:
        """Return the score of all images and ``f1_macro``, as metrics.json has them for baselines."""
        ...

    def first_of_each(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the first image of each class that occurs."""
        ...

    def regressions(
        self, vectors: Vectors, labels: NDArray[Any], num_classes: int
    ) -> Iterator[tuple[float, Probabilities]]:
        """Yield each strength of the regularisation with a fitted logistic regression."""
        ...


_TARGETS: dict[Target, EvaluationTarget] = {"one_class": one_class, "several_labels": several_labels}


def evaluation_target(name: Target) -> EvaluationTarget:
    """Return the module of a kind of target.

    Raises:
        UserError: the kind has no decision for each image.
    """
    if name not in _TARGETS:
        raise UserError(f"this needs labels of images, but the data set has {WORDS[name].per_image}")
    return _TARGETS[name]
