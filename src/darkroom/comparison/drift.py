"""Tells whether new predictions of a model differ from those for its test images, and in what.

Three two-sample tests, corrected by Holm's method: Pearson's chi-squared test of the predicted classes
(by Monte Carlo if counts are small), and the tests of Kolmogorov and Smirnov of confidence and
unfamiliarity. If the classes differ, Fisher's exact test of each class, corrected too, says which.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.holm import holm
from darkroom.metrics.intervals import wilson

ALPHA = 0.05

DIGITS = {"confidence": 4, "unfamiliarity": 3}
"""Decimals that are compared: tables round numbers, and exported formats differ by less."""

FEW = 5
"""Expected count below which the distribution of the chi-squared statistic is simulated."""

NUM_RESAMPLES = 9_999

SMALL = 50
"""Number of rows below which the exact distribution of Kolmogorov and Smirnov is used."""


@dataclass(frozen=True)
class Sample:
    """Predictions of one model for some images or rows."""

    answers: Mapping[str, int]
    """How often each class, or each combination of labels, was predicted."""
    labels: Mapping[str, int]
    """How often each class or label was predicted; of classes the same as ``answers``."""
    numbers: Mapping[str, NDArray[np.float64]]
    """Of ``confidence`` and ``unfamiliarity``, those that the table has, ``(n,)``."""

    def __len__(self) -> int:
        return sum(self.answers.values())


@dataclass(frozen=True)
class Change:
    """The test of one property of predictions."""

    name: str
    """``classes``, ``confidence`` or ``unfamiliarity``."""
    p_value: float
    """Corrected for the number of tests."""
    distance: float
    """0..1: of classes the share of predictions that would have to be others (the total variation), of
    numbers the largest difference of the distribution functions."""
    means: tuple[float, float] | None = None
    """Of numbers, in the reference and in the new predictions."""
    interval: tuple[float, float] | None = None
    """95 % interval of the difference of the means; None if one of the samples has a single row."""


@dataclass(frozen=True)
class ClassChange:
    """How often a class was predicted."""

    name: str
    shares: tuple[float, float]
    """In the reference and in the new predictions, 0..1."""
    interval: tuple[float, float]
    """95 % interval of the difference."""
    p_value: float
    """Corrected for the number of classes."""

    @property
    def difference(self) -> float:
        return self.shares[1] - self.shares[0]


@dataclass(frozen=True)
class Drift:
    """What has changed."""

    alpha: float
    sizes: tuple[int, int]
    changes: Sequence[Change]
    classes: Sequence[ClassChange]
    """All classes, the largest differences first."""

    @property
    def changed(self) -> list[Change]:
        """The properties that differ."""
        return [change for change in self.changes if change.p_value <= self.alpha]

    @property
    def moved(self) -> list[ClassChange]:
        """The classes that are predicted more or less often; only if the classes as a whole differ."""
        if not any(change.name == "classes" for change in self.changed):
            return []
        return [one for one in self.classes if one.p_value <= self.alpha]

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can represent."""
        moved = {one.name for one in self.moved}
        return {
            "drift": bool(self.changed),
            "alpha": self.alpha,
            "num_reference": self.sizes[0],
            "num_new": self.sizes[1],
            "tests": [{**asdict(one), "changed": one in self.changed} for one in self.changes],
            "classes": [{**asdict(one), "moved": one.name in moved} for one in self.classes],
        }


def find_drift(reference: Sample, new: Sample, alpha: float = ALPHA) -> Drift:
    """Test new predictions against a reference. The same input always gives the same result.

    The tests assume that images are independent of each other.

    Args:
        reference, new: with at least one prediction each.
        alpha: how often a property may be called changed although nothing has changed.
    """
    names = [name for name in DIGITS if name in reference.numbers and name in new.numbers]
    pairs = [
        tuple(np.round(sample.numbers[name], DIGITS[name]) for sample in (reference, new))
        for name in names
    ]
    tests = [_test_of_classes(reference.answers, new.answers), *(_test_of_numbers(*p) for p in pairs)]
    effects = [{}, *(_effect(*pair) for pair in pairs)]
    corrected = holm([p_value for p_value, _ in tests])
    changes = [
        Change(name, p_value, distance, **effect)
        for name, p_value, (_, distance), effect in zip(
            ["classes", *names], corrected, tests, effects, strict=True
        )
    ]
    return Drift(alpha, (len(reference), len(new)), changes, _class_changes(reference, new))


def _test_of_classes(reference: Mapping[str, int], new: Mapping[str, int]) -> tuple[float, float]:
    """Return p-value and total variation."""
    from scipy.stats import MonteCarloMethod, chi2_contingency

    names = sorted({*reference, *new})
    counts = np.array([[sample.get(name, 0) for name in names] for sample in (reference, new)])
    sizes = counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(np.diff(counts / sizes, axis=0)).sum() / 2)
    if len(names) == 1:
        return 1.0, 0.0
    expected = sizes * counts.sum(axis=0) / counts.sum()
    random = np.random.Generator(np.random.Philox(0))
    simulated = MonteCarloMethod(NUM_RESAMPLES, rng=random) if expected.min() < FEW else None
    return float(chi2_contingency(counts, correction=False, method=simulated).pvalue), distance


def _test_of_numbers(reference: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """Return p-value and statistic. Equal values make the test conservative, never the reverse."""
    from scipy.stats import ks_2samp

    exact = min(len(reference), len(new)) < SMALL
    found = ks_2samp(reference, new, method="exact" if exact else "asymp")
    return float(found.pvalue), float(found.statistic)


def _effect(reference: NDArray[np.float64], new: NDArray[np.float64]) -> dict[str, Any]:
    """Return the means, and the interval of their difference by Welch's approximation (1947)."""
    from scipy.stats import t

    means = float(reference.mean()), float(new.mean())
    if min(len(reference), len(new)) < 2:
        return {"means": means}
    variances = np.array([sample.var(ddof=1) / len(sample) for sample in (reference, new)])
    half = 0.0
    if total := variances.sum():
        freedom = total**2 / (variances**2 / [len(reference) - 1, len(new) - 1]).sum()
        half = float(t.ppf(0.975, freedom) * np.sqrt(total))
    difference = means[1] - means[0]
    return {"means": means, "interval": (difference - half, difference + half)}


def _class_changes(reference: Sample, new: Sample) -> list[ClassChange]:
    from scipy.stats import fisher_exact

    names = sorted({*reference.labels, *new.labels})
    sizes = np.array([len(reference), len(new)], np.float64)
    found = []
    for name in names:
        counts = np.array([sample.labels.get(name, 0) for sample in (reference, new)])
        p_value = float(fisher_exact([counts, sizes.astype(int) - counts]).pvalue)
        found.append((name, counts / sizes, p_value))
    corrected = holm([p_value for _, _, p_value in found])
    changes = [
        ClassChange(name, (float(shares[0]), float(shares[1])), newcombe(shares, sizes), p_value)
        for (name, shares, _), p_value in zip(found, corrected, strict=True)
    ]
    return sorted(changes, key=lambda one: (-abs(one.difference), one.name))


def newcombe(shares: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares, the second minus the first.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions"
    (1998), from the intervals of Wilson.

    Args:
        shares, sizes: of both samples, ``(2,)``.
    """
    low, high = wilson(shares, sizes)
    difference = float(shares[1] - shares[0])
    down = math.hypot(shares[1] - low[1], high[0] - shares[0])
    up = math.hypot(high[1] - shares[1], shares[0] - low[0])
    return difference - down, difference + up


def counted_labels(answers: Mapping[str, int], separator: str) -> Counter[str]:
    """Return how often each label occurs in combinations that ``separator`` joins."""
    counts: Counter[str] = Counter()
    for answer, number in answers.items():
        for label in filter(None, answer.split(separator)):
            counts[label] += number
    return counts
