"""What a kind of target says about wrong labels."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.suspects.confident import Doubts, Probabilities
from darkroom.suspects.targets import mask, one_class, several_labels
from darkroom.targets import Target


class SuspectsTarget(Protocol):
    """A module for each kind. Labels are those of ``Shards.labels``."""

    def doubts(
        self,
        labels: NDArray[Any],
        probabilities: Probabilities,
        names: NDArray[np.object_],
        separator: str,
    ) -> tuple[Doubts, list[str], list[str]]:
        """Return what speaks against each label, the labels as text, and what is suggested instead.

        Args:
            names: of the classes.
            separator: between the labels of an image.
        """
        ...

    def can_be_judged(
        self, labels: NDArray[Any], folds: NDArray[np.int64], num_classes: int
    ) -> NDArray[np.bool_]:
        """Return which images have a label that models of other folds know, ``(n,)``."""
        ...


_TARGETS: dict[Target, SuspectsTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def suspects_target(name: Target) -> SuspectsTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]
