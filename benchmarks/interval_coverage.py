"""Measures how often intervals of macro F1 cover the truth, and how often comparisons and slices err.

    python benchmarks/interval_coverage.py [--sets 2000] [--resamples 1000]

Test sets are simulated from confusion probabilities that are known, so the true macro F1 is, too. Of
each kind: balanced, imbalanced 1:50, many small classes, nearly perfect, and grouped (ten images of a
group are alike), the last also with the intervals for independent images, which must cover less.
Comparisons are of two models on the same images: without a difference, 5 % false alarms are expected;
with one, the share that is found is the power. All comparisons share the random numbers of their
resamples, so those near 5 % take all 10,000: with fewer, a common error would look like false alarms.
Slices are those of grouped images without any difference: at most 5 % of the test sets may find one, and
more do if the images are taken as independent; and the intervals of the slices should cover the true
accuracy. Adds JSON lines to benchmarks/results/interval-coverage.jsonl.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import hardware, keep
from numpy.typing import NDArray

from darkroom.evaluation.slices import with_slices
from darkroom.evaluation.targets.one_class import OneClassEvaluation
from darkroom.metrics import intervals, paired
from darkroom.metrics.remarks import P_VALUE

Draw = Callable[[np.random.Generator], tuple[NDArray[np.int64], NDArray[np.int64]]]


def macro_f1(confusion: NDArray[np.float64]) -> float:
    return float(np.mean(2 * confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1))))


def confusion_shares(recalls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the share of each prediction in the images of each class; errors prefer some classes."""
    num_classes = len(recalls)
    shares = np.random.default_rng(1).dirichlet(np.ones(num_classes), num_classes)
    np.fill_diagonal(shares, 0)
    shares *= ((1 - recalls) / shares.sum(axis=1))[:, None]
    return shares + np.diag(recalls)


def independent(per_class: list[int], recalls: list[float]) -> tuple[Draw, float]:
    """Returns what draws a test set of independent images, and the true macro F1."""
    counts, shares = np.array(per_class), confusion_shares(np.array(recalls))
    targets = np.repeat(np.arange(len(counts)), counts)

    def draw(random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        drawn = [random.choice(len(counts), n, p=p) for n, p in zip(counts, shares, strict=True)]
        return targets, np.concatenate(drawn)

    return draw, macro_f1(shares * counts[:, None])


FEW_RESAMPLES = 500
"""They show that a p-value is not near 0.05."""
GROUPS = np.repeat(np.arange(60), 10)


def grouped(random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws 60 groups of ten images of five classes; the recall differs between groups."""
    targets = random.integers(0, 5, 60)[GROUPS]
    right = random.random(len(GROUPS)) < random.beta(1.7, 0.3, 60)[GROUPS]
    wrong = (targets + random.integers(1, 5, len(GROUPS))) % 5
    return targets, np.where(right, targets, wrong)


CASES: dict[str, tuple[Draw, float, NDArray[np.int64] | None]] = {
    "balanced": (*independent([100] * 10, [0.9] * 10), None),
    "imbalanced 1:50": (
        *independent([500, 200, 100, 50, 20, 10], [0.95, 0.9, 0.9, 0.8, 0.8, 0.7]),
        None,
    ),
    "small": (*independent([30] * 3, [0.8] * 3), None),
    "100 classes of 5 images": (*independent([5] * 100, [0.8] * 100), None),
    "nearly perfect": (*independent([36] * 10, [0.997] * 10), None),
    "nearly perfect, 1:50": (*independent([500, 200, 100, 50, 20, 10], [0.99] * 6), None),
    "grouped": (grouped, 0.85, GROUPS),
    "grouped, as if independent": (grouped, 0.85, None),
}
"""What draws a test set, its true macro F1, and the groups that the intervals are told. With errors
that are spread evenly over equally frequent classes, macro F1 is the recall."""


def one_hot(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.bool_]:
    return labels[:, None] == np.arange(num_classes)


def measure_coverage(case: str, num_sets: int) -> None:
    draw, truth, groups = CASES[case]
    random = np.random.default_rng(0)
    bounds = []
    for _ in range(num_sets):
        targets, preds = draw(random)
        num_classes = int(targets.max()) + 1
        found = intervals.score_intervals(
            one_hot(targets, num_classes), one_hot(preds, num_classes), groups
        )
        bounds.append(found.f1_macro)
    low, high = np.transpose(bounds)
    keep(
        "interval-coverage",
        {
            "case": case,
            "truth": round(truth, 4),
            "sets": num_sets,
            "covered": round(float(((low <= truth) & (truth <= high)).mean()), 4),
            "truth_below": round(float((truth < low).mean()), 4),
            "truth_above": round(float((high < truth).mean()), 4),
            "mean_width": round(float((high - low).mean()), 4),
            "resamples": intervals.NUM_RESAMPLES,
        },
    )


def measure_comparison(better_by: float, num_sets: int) -> None:
    """Compares two models of 1,000 images of ten classes that err independently."""
    random = np.random.default_rng(0)
    targets = np.arange(1_000) % 10
    outside, significant, told_apart = 0, 0, 0
    for _ in range(num_sets):
        preds = [
            np.where(random.random(1_000) < recall, targets, random.integers(0, 10, 1_000))
            for recall in (0.85, 0.85 + better_by)
        ]
        labels = [one_hot(classes, 10) for classes in (targets, *preds)]
        units = paired.label_units(labels[0], labels[1], labels[2], None)
        found = paired.compare_units(units, num_resamples=FEW_RESAMPLES)
        if 0.01 < found.p_value < 0.12:
            found = paired.compare_units(units)
        is_outside = not found.low <= 0 <= found.high
        outside += is_outside
        significant += found.p_value <= 0.05
        told_apart += is_outside and found.p_value <= 0.05  # as `darkroom compare` judges
    keep(
        "interval-coverage",
        {
            "case": "comparison",
            "better_by": better_by,
            "sets": num_sets,
            "interval_without_zero": round(outside / num_sets, 4),
            "p_at_most_5_percent": round(significant / num_sets, 4),
            "told_apart": round(told_apart / num_sets, 4),
            "resamples": paired.NUM_RESAMPLES,
            "resamples_of_clear_cases": FEW_RESAMPLES,
        },
    )


def measure_slices(beta: tuple[float, float], is_grouped: bool, num_sets: int) -> None:
    """Tests twelve slices: three ways to cut 100 groups of five images into quarters."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 5)
    targets = torch.arange(len(groups)) % 2
    accuracy = beta[0] / sum(beta)
    named = lower = covered = num_slices = 0
    for _ in range(num_sets):
        is_right = torch.from_numpy(random.random(len(groups)) < random.beta(*beta, 100)[groups])
        preds = torch.where(is_right, targets, 1 - targets)
        probabilities = torch.nn.functional.one_hot(preds, 2).double()
        evaluation = OneClassEvaluation(["a", "b"], targets, probabilities, probabilities, {})
        attributes = {
            name: [f"{part}" for part in random.permutation(np.arange(100) % 4)[groups]]
            for name in ("one", "another", "a third")
        }
        found = with_slices(evaluation, attributes, groups if is_grouped else None).metrics["slices"]
        p_values = [row["p_value"] for row in found if row["p_value"] is not None]
        named += min(p_values) < P_VALUE
        covered += sum(row["low"] <= accuracy <= row["high"] for row in found)
        num_slices += len(found)
        lower += any(
            row["p_value"] < P_VALUE and row["score"] < row["rest"] for row in found if row["p_value"]
        )
    keep(
        "interval-coverage",
        {
            "case": "slices of groups" if is_grouped else "slices of groups, as if independent",
            "beta_of_accuracy": list(beta),
            "sets": num_sets,
            "with_a_difference": round(named / num_sets, 4),
            "with_a_worse_slice": round(lower / num_sets, 4),
            "coverage_of_slices": round(covered / num_slices, 4),
        },
    )


def measure_time() -> None:
    """Times the intervals of 10,000 images."""
    random = np.random.default_rng(0)
    for num_classes in (10, 1_000):
        targets = np.arange(10_000) % num_classes
        preds = np.where(random.random(10_000) < 0.8, targets, random.integers(0, num_classes, 10_000))
        labels = one_hot(targets, num_classes), one_hot(preds, num_classes)
        started = time.process_time()
        intervals.score_intervals(*labels)
        keep(
            "interval-coverage",
            {
                "case": f"time of 10,000 images, {num_classes} classes",
                "cpu_seconds": round(time.process_time() - started, 2),
                "resamples": intervals.NUM_RESAMPLES,
                **hardware(),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=2_000, help="test sets per case")
    parser.add_argument("--resamples", type=int, default=1_000, help="fewer than in use, to save time")
    args = parser.parse_args()
    measure_time()
    intervals.NUM_RESAMPLES = args.resamples
    for case in CASES:
        measure_coverage(case, args.sets)
    for better_by in (0.0, 0.03):
        measure_comparison(better_by, args.sets)
    for beta in ((1.7, 0.3), (0.9, 0.1), (19.0, 1.0)):
        for is_grouped in (True, False):
            measure_slices(beta, is_grouped, args.sets)


if __name__ == "__main__":
    main()
