"""The scores of each exported file on the test images, beside those of the checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.export.parity import Parity


def scores_of_files(
    parities: Mapping[str, Parity], groups: NDArray[np.int64] | None
) -> dict[str, dict[str, Any]]:
    """Return the scores of each file by its name; files that predict the same are scored once.

    Args:
        groups: as ``groups_of`` returns.
    """
    known: dict[bytes, dict[str, Any]] = {}
    scores = {}
    for name, parity in parities.items():
        scored = parity.answers.scored
        if scored not in known:
            known[scored] = parity.answers.scores(groups)
        scores[name] = known[scored]
    return scores
