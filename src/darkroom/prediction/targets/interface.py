"""What a kind of target says about predictions: what an export must have, and rows of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from darkroom.prediction.columns import Column
from darkroom.prediction.description import Description, ExportDescription, Limits
from darkroom.prediction.targets import mask, one_class, several_labels
from darkroom.targets import Target


class PredictedTarget(Protocol):
    """A module for each kind."""

    columns: tuple[Column, Column]
    """Of a table with the decision for each image."""

    def check(self, described: Description, file: Path, masks: bool) -> None:
        """Check the thresholds, and what is asked of the model.

        Args:
            file: where the description is from, for messages.
            masks: whether masks are wanted.

        Raises:
            UserError: thresholds do not fit the classes, or the model predicts something else.
        """
        ...

    def output_shape(self, described: ExportDescription) -> tuple[int, ...]:
        """Return the shape of the probabilities of an image."""
        ...

    def limits(self, described: Description, file: Path) -> Limits:
        """Return the probabilities between which the model abstains.

        Raises:
            UserError: the model has none, or they do not fit the classes.
        """
        ...

    def cells(self, classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
        """Return the cells of the decision for an image, below ``columns``."""
        ...


_TARGETS: dict[Target, PredictedTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def predicted_target(name: Target) -> PredictedTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]
