"""What a kind of target says about models: their outputs, and the description of an exported one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.models.targets import mask, one_class, several_labels
from darkroom.targets import Target

if TYPE_CHECKING:
    from torch import Tensor, nn

    from darkroom.models.heads import Head
    from darkroom.models.spec import ModelSpec


class ModelTarget(Protocol):
    """A module for each kind. Descriptions are read without torch, which modules thus import late."""

    needs_map: bool
    """Whether the backbone must return a map."""

    def adapted(self, backbone: "nn.Module", spec: "ModelSpec") -> "nn.Module":
        """Return a backbone whose features suit the kind of target, from that of the spec.

        Raises:
            UserError: the spec's backbone cannot be adapted.
        """
        ...

    def head(self, spec: "ModelSpec", feature_shape: Sequence[int]) -> "Head":
        """Return the part of a network that computes logits from features.

        Args:
            feature_shape: ``(C, h, w)`` or ``(C,)``.

        Raises:
            UserError: the spec's head does not support such features.
        """
        ...

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return what logits at temperature 1 stand for, in their shape, 0..1."""
        ...

    def decide(
        self, probabilities: NDArray[np.floating], thresholds: Sequence[float] | None
    ) -> NDArray[np.bool_]:
        """Return which classes are predicted.

        Args:
            probabilities: ``(n, num_classes)``.
            thresholds: those of the model.

        Returns:
            ``(n, num_classes)``.
        """
        ...

    def description(self, thresholds: Sequence[float] | None) -> dict[str, Any]:
        """Return the entries of model.json that only this kind has."""
        ...


_TARGETS: dict[Target, ModelTarget] = {
    "one_class": one_class,
    "several_labels": several_labels,
    "mask": mask,
}


def model_target(name: Target) -> ModelTarget:
    """Return the module of a kind of target."""
    return _TARGETS[name]
