"""Models that predict any number of labels per image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkroom.models.targets.one_class import adapted as adapted
from darkroom.models.targets.one_class import head as head

if TYPE_CHECKING:
    from torch import Tensor

needs_map = False


def probabilities(logits: "Tensor") -> "Tensor":
    """Return independent probabilities of labels."""
    return logits.sigmoid()


def decide(probabilities: NDArray[np.floating], thresholds: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return the labels whose probability reaches their threshold."""
    assert thresholds is not None
    # a threshold changes its value in float32
    return probabilities.astype(np.float64) >= np.array(thresholds, np.float64)


def description(thresholds: Sequence[float] | None) -> dict[str, Any]:
    return {"multi_label": True, "thresholds": thresholds}
