"""Add confidence intervals to the scores of an evaluation."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.evaluation import Evaluation
from darkroom.inputs import words_of_metrics
from darkroom.metrics.intervals import named_bounds, score_intervals
from darkroom.metrics.resampling import CONFIDENCE
from darkroom.targets import WORDS, target_of_metrics

OF_CLASS = ("precision", "recall", "f1")


def with_intervals(evaluation: Evaluation, groups: NDArray[np.int64] | None) -> Evaluation:
    """Return the evaluation with the 95 % interval of each score as ``*_low`` and ``*_high``.

    The metrics then also hold ``intervals``: their ``level``, what they are based on as ``units``,
    ``image``, ``row`` or ``group``, and ``num_units``.

    Args:
        groups: as ``groups_of`` returns.
    """
    targets, preds = (
        evaluation.indicators(labels).numpy() for labels in (evaluation.targets, evaluation.preds)
    )
    found = score_intervals(targets, preds, groups)
    overall = WORDS[target_of_metrics(evaluation.metrics)].score
    per_class = {
        name: {**row, **named_bounds({metric: getattr(found, metric)[:, index] for metric in OF_CLASS})}
        for index, (name, row) in enumerate(evaluation.metrics["per_class"].items())
    }
    metrics = {
        **evaluation.metrics,
        **named_bounds({overall: found.right, "f1_macro": found.f1_macro}),
        "per_class": per_class,
        "intervals": basis(len(targets), groups, words_of_metrics(evaluation.metrics).one),
    }
    return replace(evaluation, metrics=metrics)


def basis(
    num_images: int, groups: NDArray[np.int64] | None, unit: str = "image"
) -> dict[str, float | str]:
    """Return what intervals are based on, as in metrics.json, where one input is a ``unit``."""
    return {
        "level": CONFIDENCE,
        "units": unit if groups is None else "group",
        "num_units": num_images if groups is None else int(groups.max()) + 1,
    }
