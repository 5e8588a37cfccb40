"""The scores of each exported file on the test images, beside those of the checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.export.parity import Parity
from darkroom.metrics.counts import averaged_scores, counts_of_labels
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.intervals import named_bounds, score_intervals
from darkroom.targets import WORDS, Target


def scores_of_files(
    parities: Mapping[str, Parity], targets: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> dict[str, dict[str, Any]]:
    """Return the scores of each file by its name.

    Scores that depend on the predicted classes alone are the same on every machine, as parity.json must
    be. Files that predict the same are scored once.

    Args:
        targets: the true classes, bool ``(n, num_classes)``.
        groups: as ``groups_of`` returns.
    """
    known: dict[bytes, dict[str, Any]] = {}
    scores = {}
    for name, parity in parities.items():
        preds = parity.preds.tobytes()
        if preds not in known:
            known[preds] = score_preds(parity.target, targets, parity.preds, groups)
        scores[name] = known[preds]
    return scores


def score_preds(
    target: Target,
    targets: NDArray[np.bool_],
    preds: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return ``f1_macro`` and the fraction of correct images, with their 95 % intervals.

    They have the names and values that metrics.json has for the same predictions.

    Args:
        targets, preds: true and predicted classes, bool ``(n, num_classes)``.
        groups: as ``groups_of`` returns.
    """
    counts = counts_of_labels(torch.from_numpy(targets), torch.from_numpy(preds))
    found, score = score_intervals(targets, preds, groups), WORDS[target].score
    return {
        "f1_macro": averaged_scores(counts)["f1_macro"],
        score: round(float((targets == preds).all(axis=1).mean()), DIGITS),
        **named_bounds({"f1_macro": found.f1_macro, score: found.right}),
    }
