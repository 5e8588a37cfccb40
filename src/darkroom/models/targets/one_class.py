"""Models that predict one class per image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from darkroom.models.heads import Head
    from darkroom.models.spec import ModelSpec


needs_map = False


def adapted(backbone: "nn.Module", spec: "ModelSpec") -> "nn.Module":
    return backbone


def head(spec: "ModelSpec", feature_shape: Sequence[int]) -> "Head":
    """Return a head that pools features."""
    from darkroom.models.heads import make_head

    return make_head(spec.head, spec.name, feature_shape, len(spec.class_names), spec.dropout)


def probabilities(logits: "Tensor") -> "Tensor":
    """Return probabilities of classes, which sum to 1 in each row."""
    return logits.softmax(dim=1)


def decide(probabilities: NDArray[np.floating], thresholds: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return the most probable class; among equals, the first."""
    return probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])


def description(thresholds: Sequence[float] | None) -> dict[str, Any]:
    return {}
