"""Answer only when sure: the risk at each coverage, and the confidence at which a precision is reached.

Coverage is the share of images that get an answer; risk is the share of wrong answers among them
(El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", 2010).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

DOUBT = 0.05
"""Probability that a bound is wrong: of each side of an interval, half of it."""
DIGITS = 6
"""Digits of thresholds, which are rounded down: float32 holds no more of a probability near 1."""


def risk_coverage(confidences: Array, is_correct: Flags) -> Array:
    """Return the risk of answering the ``k`` most confident images, for ``k = 1 .. n``: ``(n,)``.

    Images of equal confidence share their errors, so the result does not depend on their order.

    Args:
        confidences: ``(n,)``.
        is_correct: ``(n,)``.
    """
    _, group, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    errors = np.bincount(group, ~is_correct) / counts
    return np.cumsum(np.repeat(errors, counts)) / np.arange(1, len(confidences) + 1)


def risk_area(confidences: Array, is_correct: Flags) -> float:
    """Return the area under the risk-coverage curve (AURC), 0..1: the mean of ``risk_coverage``.

    After Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers" (2019).
    """
    return float(risk_coverage(confidences, is_correct).mean())


class Answers(NamedTuple):
    """The answers at a confidence threshold."""

    num_answered: int
    num_correct: int

    @property
    def precision(self) -> float | None:
        """The share of correct answers; None if there are no answers."""
        return self.num_correct / self.num_answered if self.num_answered else None

    def precision_interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the precision by Clopper and Pearson (1934)."""
        low, high = _lower_bound(
            np.array([self.num_correct, self.num_answered - self.num_correct]),
            np.array([self.num_answered] * 2),
            DOUBT / 2,
        )
        return float(low), 1 - float(high)


def answers_at(threshold: float, confidences: Array, is_correct: Flags) -> Answers:
    """Return the answers for images whose confidence is at least the threshold."""
    is_answered = confidences >= threshold
    return Answers(int(is_answered.sum()), int(is_correct[is_answered].sum()))


def precise_threshold(confidences: Array, is_correct: Flags, precision: float) -> float | None:
    """Return the lowest threshold at which answers are shown to have a precision, or None.

    "Shown" means that the one-sided 95 % lower bound of the precision, by Clopper and Pearson, reaches
    it. The precision on the same images would be an optimistic guess.

    Args:
        confidences, is_correct: of validation images, ``(n,)``.
        precision: 0..1, exclusive.

    Returns:
        a confidence, rounded down to six digits.
    """
    candidates, counts = np.unique(rounded_down(confidences), return_counts=True)
    right = np.bincount(np.searchsorted(candidates, rounded_down(confidences)), is_correct)
    answered, correct = (part[::-1].cumsum()[::-1] for part in (counts, right))
    shown = _lower_bound(correct, answered, DOUBT) >= precision
    return float(candidates[shown.argmax()]) if shown.any() else None


class DecisionThresholds(NamedTuple):
    """When a decision about a label is sure enough; None if the precision is never shown."""

    yes: float | None
    """The label is present if its probability is at least this."""
    no: float | None
    """The label is absent if its probability is at most this."""


def decision_thresholds(
    probabilities: Array, has_it: Flags, threshold: float, precision: float
) -> DecisionThresholds:
    """Return the thresholds at which decisions for and against a label are shown to have a precision.

    Both are chosen as ``precise_threshold`` does, among the images that the model decides for, and among
    those that it decides against.

    Args:
        probabilities, has_it: of validation images, ``(n,)``.
        threshold: the lowest probability at which the model predicts the label.
        precision: 0..1, exclusive.
    """
    said_so = probabilities >= threshold
    yes = precise_threshold(probabilities[said_so], has_it[said_so], precision)
    against = precise_threshold(1 - probabilities[~said_so], ~has_it[~said_so], precision)
    # rounding must not let an answer of the other kind in
    return DecisionThresholds(
        None if yes is None else max(yes, threshold),
        None if against is None else min(round(1 - against, DIGITS), float(np.nextafter(threshold, 0))),
    )


def rounded_down(values: Array) -> Array:
    """Return the values, rounded down to six digits."""
    return np.floor(values * 10**DIGITS) / 10**DIGITS


def _lower_bound(correct: NDArray[np.number], answered: NDArray[np.number], doubt: float) -> Array:
    """Return the one-sided lower bounds of binomial proportions by Clopper and Pearson."""
    bounds = betaincinv(np.maximum(correct, 1), answered - correct + 1, doubt)
    return np.where(correct > 0, bounds, 0.0)
