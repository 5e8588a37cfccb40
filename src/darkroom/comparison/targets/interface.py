"""What a kind of target says about the comparison of two models."""

from typing import Protocol

from darkroom.comparison.predictions import Predictions
from darkroom.comparison.targets import mask, one_class, several_labels
from darkroom.targets import Target


class ComparedTarget(Protocol):
    """A module for each kind."""

    def calibration(self, predictions: Predictions) -> dict[str, float]:
        """Return ``nll``, ``brier`` and ``ece`` of a model's probabilities, as in metrics.json."""
        ...


_TARGETS: dict[Target, ComparedTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def compared_target(name: Target) -> ComparedTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]
