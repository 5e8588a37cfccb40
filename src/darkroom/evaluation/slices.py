"""Scores of parts of the test images: dark and bright ones, formats, folders, and so on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.attributes import Attribute
from darkroom.evaluation.evaluation import Evaluation
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.holm import holm
from darkroom.metrics.intervals import FEW_ERRORS, wilson
from darkroom.metrics.remarks import FEW_IMAGES
from darkroom.reporting.tables import write_csv

MAX_NAMES = 30
"""Slices per attribute: those with the most images."""


def with_slices(
    evaluation: Evaluation, attributes: Mapping[str, Attribute], groups: NDArray[np.int64] | None
) -> Evaluation:
    """Return the evaluation with ``slices`` in its metrics: one row per slice of the test images.

    A row has ``by`` (the attribute), ``slice``, ``num_images``, ``score`` (accuracy or exact match)
    with its interval ``low`` and ``high``, ``rest`` (the score of all other images) and ``p_value`` of
    the difference, corrected over all slices; None for a slice with too few images to be ranked.

    Args:
        attributes: as ``attributes_of`` returns.
        groups: the group of each image, ``(n,)``; None if each image is by itself.
    """
    is_right: NDArray[np.bool_] = np.asarray(evaluation.prediction_columns()["correct"])
    rows, p_values = [], []
    for by, values in attributes.items():
        known = np.array([value is not None for value in values])
        slices = list(_slices(values))
        if not _tells_more_than_the_truth(slices, evaluation.truth_groups):
            continue
        for name, chosen in slices:
            row, p_value = _compare(is_right, chosen, known & ~chosen, groups)
            rows.append({"by": by, "slice": name, **row})
            p_values.append(p_value)
    ranked = [index for index, p_value in enumerate(p_values) if p_value is not None]
    for index, corrected in zip(ranked, holm([p_values[index] or 0.0 for index in ranked]), strict=True):
        rows[index]["p_value"] = round(corrected, DIGITS)
    return replace(evaluation, metrics={**evaluation.metrics, "slices": rows})


def filters_of(evaluation: Evaluation, attributes: Mapping[str, Attribute]) -> dict[str, list[str]]:
    """Return the values of the attributes that have slices, for the report's filters.

    Args:
        evaluation: as ``with_slices`` returns.
    """
    sliced = {row["by"] for row in evaluation.metrics["slices"]}
    return {
        name: ["unknown" if value is None else f"{value}" for value in values]
        for name, values in attributes.items()
        if name in sliced
    }


def write_slices(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write the rows of ``with_slices``; the p-value is empty for a slice that is not ranked."""
    columns = ("by", "slice", "num_images", "score", "low", "high", "rest", "p_value")
    write_csv(columns, ([row[column] for column in columns] for row in rows), file)


def sorted_slices(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the slices with the lowest score first, and those that are not ranked last."""
    return sorted(rows, key=lambda row: (row["p_value"] is None, row["score"]))


def _slices(values: Attribute) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the largest slices, in the order in which their values first appear when sorted."""
    array = np.array(["" if value is None else f"{value}" for value in values], dtype=object)
    names, counts = np.unique([value for value in array if value], return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:MAX_NAMES]
    for index in sorted(largest.tolist()):
        yield str(names[index]), np.equal(array, names[index]).astype(bool)


def _tells_more_than_the_truth(
    slices: Sequence[tuple[str, NDArray[np.bool_]]], truth: NDArray[np.int64]
) -> bool:
    """Whether there are several slices and they are not just the classes, as folders often are."""
    if len(slices) < 2:
        return False
    is_varied = len(np.unique(truth)) > 1
    return not is_varied or any(len(np.unique(truth[chosen])) > 1 for _, chosen in slices)


def _compare(
    is_right: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    rest: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
) -> tuple[dict[str, Any], float | None]:
    """Return a slice's row without attribute and name, and the p-value of its difference to the rest."""
    from scipy.stats import fisher_exact, t

    units = np.arange(len(is_right)) if groups is None else groups
    num_units, num_images = len(np.unique(units[chosen])), int(chosen.sum())
    score, other = float(is_right[chosen].mean()), float(is_right[rest].mean())
    variance = _variance((is_right - score) * chosen / num_images, num_units, units)
    size = float(num_units)
    if 0 < score < 1 and variance > 0:
        # the variance of a handful of errors is too uncertain to count for more than the groups
        num_wrong = len(np.unique(units[chosen & ~is_right]))
        at_most = num_units if num_wrong < FEW_ERRORS else num_images
        size = min(max(score * (1 - score) / variance, 1.0), at_most)
    low, high = wilson(np.array(score), np.array(size)).tolist()
    row = {"num_images": num_images, "score": round(score, DIGITS), "low": low, "high": high}
    row |= {"rest": round(other, DIGITS), "p_value": None}
    if min(num_units, len(np.unique(units[rest]))) < FEW_IMAGES:
        return row, None
    if groups is None:
        table = [
            [int((is_right & part).sum()), int((~is_right & part).sum())] for part in (chosen, rest)
        ]
        return row, float(fisher_exact(table).pvalue)
    error = _error_without_difference(is_right, chosen, rest, groups)
    if error == 0:  # all right, or all wrong, on both sides
        return row, 1.0
    return row, float(2 * t.sf(abs(score - other) / error, len(np.unique(units[chosen | rest])) - 1))


def _error_without_difference(
    is_right: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    rest: NDArray[np.bool_],
    groups: NDArray[np.int64],
) -> float:
    """Return the standard error of the difference of both scores, if it is 0 in truth.

    Two images of a group are then equally alike in all groups, so their covariance is estimated from
    all of them. The groups of a slice alone are few, and happen to show too little variance when they
    happen to have few errors (Donner and Donald, "The statistical analysis of multiple binary
    measurements", 1988, adjust the chi-squared test in this way).
    """
    both = chosen | rest
    residuals = (is_right - is_right[both].mean()) * both
    weights = chosen / chosen.sum() - rest / rest.sum()
    num_images, sums, weight_sums = (np.bincount(groups, each) for each in (both, residuals, weights))
    squares, num_pairs = (residuals**2).sum(), (num_images * (num_images - 1)).sum()
    covariance = max(((sums**2).sum() - squares) / max(num_pairs, 1), 0.0)
    variance = squares / (both.sum() - 1)
    return float(
        np.sqrt((variance - covariance) * (weights**2).sum() + covariance * (weight_sums**2).sum())
    )


def _variance(influence: NDArray[np.float64], num_units: int, units: NDArray[np.int64]) -> float:
    """Return the variance of a score, of which each image moves it by its influence."""
    squares = float((np.bincount(units, influence) ** 2).sum())
    return squares * num_units / max(num_units - 1, 1)
