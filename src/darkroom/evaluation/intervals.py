"""Add confidence intervals to the scores of an evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from darkroom.evaluation.evaluation import Evaluation
from darkroom.metrics.intervals import Bounds, score_intervals
from darkroom.metrics.resampling import CONFIDENCE
from darkroom.targets import WORDS, target_of_metrics

OF_CLASS = ("precision", "recall", "f1")


def groups_of(manifest: Path, paths: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the group of each test image, or None if each image is by itself.

    Images of one group of the collection belong together, and so do duplicates that stayed in the split.

    Args:
        manifest: the file that ``prepare`` wrote about all images.
        paths: the test images.

    Returns:
        int64 ``(n,)``, 0 to ``num_groups - 1``.
    """
    table = pq.read_table(
        manifest, columns=["path", "group", "duplicate_of"], filters=pc.field("split") == "test"
    )
    place = {path: index for index, path in enumerate(paths)}
    first_of_group: dict[str, int] = {}
    pairs = []
    for path, group, original in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if path not in place:
            continue
        if group is not None:
            pairs.append((place[path], first_of_group.setdefault(group, place[path])))
        if original in place:
            pairs.append((place[path], place[original]))
    if not any(a != b for a, b in pairs):
        return None
    a, b = zip(*pairs, strict=True)
    linked = csr_matrix((np.ones(len(pairs)), (a, b)), shape=(len(paths), len(paths)))
    return connected_components(linked, directed=False)[1].astype(np.int64)


def with_intervals(evaluation: Evaluation, groups: NDArray[np.int64] | None) -> Evaluation:
    """Return the evaluation with the 95 % interval of each score as ``*_low`` and ``*_high``.

    The metrics then also hold ``intervals``: their ``level``, what they are based on as ``units``,
    ``image`` or ``group``, and ``num_units``.

    Args:
        groups: as ``groups_of`` returns.
    """
    targets, preds = (
        evaluation.indicators(labels).numpy() for labels in (evaluation.targets, evaluation.preds)
    )
    found = score_intervals(targets, preds, groups)
    overall = WORDS[target_of_metrics(evaluation.metrics)].score
    per_class = {
        name: {**row, **_bounds({metric: getattr(found, metric)[:, index] for metric in OF_CLASS})}
        for index, (name, row) in enumerate(evaluation.metrics["per_class"].items())
    }
    metrics = {
        **evaluation.metrics,
        **_bounds({overall: found.right, "f1_macro": found.f1_macro}),
        "per_class": per_class,
        "intervals": {
            "level": CONFIDENCE,
            "units": "image" if groups is None else "group",
            "num_units": len(targets) if groups is None else int(groups.max()) + 1,
        },
    }
    return replace(evaluation, metrics=metrics)


def _bounds(bounds: dict[str, Bounds]) -> dict[str, float | None]:
    """Return lower and upper bounds under their names in metrics.json; None if not measured."""
    return {
        f"{name}_{side}": None if np.isnan(value) else float(value)
        for name, both in bounds.items()
        for side, value in zip(("low", "high"), both, strict=True)
    }
