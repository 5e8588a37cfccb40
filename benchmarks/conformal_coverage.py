"""Measures on digits what temperature, confidence threshold and prediction sets promise.

    python benchmarks/conformal_coverage.py
    python benchmarks/conformal_coverage.py --table

A logistic regression is fitted once on 400 of scikit-learn's digits. The other 1,397 images are split
200 times into validation images, on which everything is chosen, and test images. It takes half a minute
and adds lines to benchmarks/results/conformal_coverage.jsonl:

- ``sets``: coverage and mean size of the sets, with one quantile per class and, for comparison, with one
  quantile of all images. ``rounded_up`` is the coverage if quantiles are not interpolated between two
  images, but are always the lower one;
- ``threshold``: how often the precision on all images is below what was asked, if the threshold is
  chosen by the lower bound of the validation precision and, for comparison, by the precision itself;
  ``interval_reaches_it`` is how often what was asked is not above the interval of the test precision;
- ``temperature``: the change of the negative log-likelihood of test images in nats, for regressions that
  are too unsure, about right, and too sure.
"""

import argparse
from typing import Any

import numpy as np
from machine import hardware, keep, kept
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from darkroom.metrics.conformal import prediction_sets, set_thresholds
from darkroom.metrics.selective import answers_at, precise_threshold
from darkroom.metrics.temperature import fit_temperature

NAME = "conformal_coverage"
NUM_TRAIN, NUM_SPLITS, NUM_CLASSES = 400, 200, 10
COVERAGE = 0.9
VAL_IMAGES = (100, 180, 270, 359, 700, 1_000)
"""270 are as many as the default split has."""
PRECISIONS = (0.95, 0.98)
STRENGTHS = {"too unsure": 0.05, "unsure": 1.0, "too sure": 1_000.0}
"""Values of scikit-learn's ``C``."""

Array = NDArray[np.float64]


def logits_and_targets(strength: float) -> tuple[Array, NDArray[np.int64]]:
    """Returns a regression's logits, ``(1397, 10)``, of the images that it was not fitted on."""
    images, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    train, rest = order[:NUM_TRAIN], order[NUM_TRAIN:]
    model = LogisticRegression(C=strength, max_iter=5_000).fit(images[train] / 16, targets[train])
    return model.decision_function(images[rest] / 16), targets[rest]


def splits(num_images: int, num_val: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Returns the rows of validation and test images of each split."""
    rng = np.random.default_rng(num_val)
    orders = (rng.permutation(num_images) for _ in range(NUM_SPLITS))
    return [(order[:num_val], order[num_val:]) for order in orders]


def sets(logits: Array, targets: NDArray[np.int64], num_val: int, by_class: bool) -> dict[str, Any]:
    """Returns the figures of prediction sets."""
    probabilities = softmax(logits, axis=1)
    of_truth = probabilities[np.arange(len(targets)), targets]
    groups = targets if by_class else np.zeros_like(targets)
    covered, rounded_up, sizes, empty, marginal = [], [], [], [], []
    hits, images = np.zeros((2, NUM_CLASSES))
    for val, test in splits(len(targets), num_val):
        found = set_thresholds(groups[val], of_truth[val], groups.max() + 1, COVERAGE)
        thresholds = np.broadcast_to(found.thresholds, NUM_CLASSES)
        members = prediction_sets(probabilities[test], thresholds)
        has_truth = members[np.arange(len(test)), targets[test]]
        covered.append(has_truth.mean())
        sizes.append(members.sum(axis=1).mean())
        empty.append((~members.any(axis=1)).mean())
        marginal.append(int(found.is_marginal.sum()))
        lower = np.array(
            [_rounded_up(of_truth[val][groups[val] == label]) for label in range(groups.max() + 1)]
        )
        lower = np.where(np.isnan(lower), _rounded_up(of_truth[val]), lower)
        rounded_up.append((of_truth[test] >= lower[groups[test]]).mean())
        hits += np.bincount(targets[test], has_truth, NUM_CLASSES)
        images += np.bincount(targets[test], minlength=NUM_CLASSES)
    return {
        "asked": COVERAGE,
        "coverage": _mean(covered),
        "coverage_standard_error": round(float(np.std(covered, ddof=1)) / NUM_SPLITS**0.5, 4),
        "rounded_up": _mean(rounded_up),
        "lowest_of_a_class": round(float((hits / images).min()), 4),
        "highest_of_a_class": round(float((hits / images).max()), 4),
        "mean_size": _mean(sizes),
        "empty": _mean(empty),
        "classes_with_quantile_of_all": _mean(marginal),
    }


def _rounded_up(own: Array) -> float:
    """Returns the highest of the images' probabilities that is reached by at least what was asked."""
    num_reaching = int(np.ceil(round((len(own) + 1) * COVERAGE, 9)))
    return float(np.sort(own)[-num_reaching]) if num_reaching <= len(own) else float("nan")


def threshold(logits: Array, targets: NDArray[np.int64], num_val: int, asked: float) -> dict[str, Any]:
    """Returns the figures of thresholds; the true precision is that on all images."""
    probabilities = softmax(logits, axis=1)
    confidences, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    figures: dict[str, Any] = {"asked": asked}
    for rule in ("lower bound", "precision itself"):
        precisions, answered, reached = [], [], []
        for val, test in splits(len(targets), num_val):
            if rule == "lower bound":
                found = precise_threshold(confidences[val], is_correct[val], asked)
            else:
                found = _by_precision_itself(confidences[val], is_correct[val], asked)
            if found is not None:
                is_answered = confidences >= found
                precisions.append(is_correct[is_answered].mean())
                answered.append(is_answered.mean())
                of_test = answers_at(found, confidences[test], is_correct[test])
                reached.append(asked <= of_test.precision_interval()[1])
        figures[rule] = {
            "found": len(precisions) / NUM_SPLITS,
            "below_what_was_asked": _mean(np.array(precisions) < asked),
            "interval_reaches_it": _mean(reached),
            "precision": _mean(precisions),
            "coverage": _mean(answered),
        }
    return figures


def _by_precision_itself(
    confidences: Array, is_correct: NDArray[np.bool_], asked: float
) -> float | None:
    order = np.argsort(-confidences)
    precisions = is_correct[order].cumsum() / np.arange(1, len(order) + 1)
    reached = np.flatnonzero(precisions >= asked)
    return float(confidences[order][reached[-1]]) if len(reached) else None


def temperature(logits: Array, targets: NDArray[np.int64], num_val: int) -> dict[str, Any]:
    """Returns what a temperature changes on test images."""
    temperatures, changes = [], []
    for val, test in splits(len(targets), num_val):
        found = fit_temperature(logits[val], targets[val])
        temperatures.append(found)
        changes.append(_nll(logits[test] / found, targets[test]) - _nll(logits[test], targets[test]))
    return {
        "nll_before": round(_nll(logits, targets), 4),
        "nll_change": _mean(changes),
        "worse": _mean(np.array(changes) > 0),
        "worst_change": round(float(max(changes)), 4),
        "unchanged": _mean(np.array(temperatures) == 1),
        "median_temperature": round(float(np.median(temperatures)), 3),
    }


def _nll(logits: Array, targets: NDArray[np.int64]) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def _mean(values: Any) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def measure() -> None:
    """Adds all lines."""
    outputs = {name: logits_and_targets(strength) for name, strength in STRENGTHS.items()}
    common = {"splits": NUM_SPLITS, **hardware()}
    for num_val in VAL_IMAGES:
        line = {"val_images": num_val, **common}
        for name, pair in outputs.items():
            of_classes = {"part": "sets", "quantiles": "of each class", "model": name, **line}
            keep(NAME, {**of_classes, **sets(*pair, num_val, by_class=True)})
        of_all = {"part": "sets", "quantiles": "of all images", "model": "unsure", **line}
        keep(NAME, {**of_all, **sets(*outputs["unsure"], num_val, by_class=False)})
        for asked in PRECISIONS:
            keep(NAME, {"part": "threshold", **line, **threshold(*outputs["unsure"], num_val, asked)})
    for num_val in (10, 30, 100, 270, 700):
        for name, pair in outputs.items():
            line = {"part": "temperature", "model": name, "val_images": num_val, **common}
            keep(NAME, {**line, **temperature(*pair, num_val)})


def table(part: str, columns: tuple[str, ...]) -> str:
    """Returns the lines of a part as a Markdown table."""
    rows = [line for line in kept(NAME) if line["part"] == part]
    header = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    cells = (" | ".join(f"{row.get(name, '')}" for name in columns) for row in rows)
    return "\n".join([header, *(f"| {row} |" for row in cells)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the kept figures")
    if not parser.parse_args().table:
        measure()
        return
    columns = (
        "val_images",
        "model",
        "quantiles",
        "coverage",
        "rounded_up",
        "lowest_of_a_class",
        "empty",
    )
    print(table("sets", columns))
    print(table("threshold", ("val_images", "asked", "lower bound", "precision itself")))
    print(table("temperature", ("val_images", "model", "nll_change", "worse", "worst_change")))


if __name__ == "__main__":
    main()
