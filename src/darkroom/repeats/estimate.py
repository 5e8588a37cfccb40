"""The mean of scores of several trainings, its interval, and how far single trainings differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.metrics.digits import DIGITS
from darkroom.metrics.resampling import CONFIDENCE


@dataclass(frozen=True)
class Estimate:
    """The mean of scores, 0..1, and the 95 % interval of the score that it estimates."""

    mean: float
    spread: float
    """The standard deviation of single trainings."""
    low: float
    high: float
    noise: float
    """By how much two trainings differ at most, in 95 % of all cases, if nothing but chance differs."""


def estimate(scores: Sequence[float], ratio: float = 0.0) -> Estimate:
    """Return the estimate of scores, with an interval of Student's t.

    Folds share training images, so their scores are more alike than independent ones. The corrected
    resampled t-test adds the ratio of images to the variance of the mean (Nadeau and Bengio, "Inference
    for the Generalization Error", Machine Learning 52, 2003).

    Args:
        scores: 0..1, at least two.
        ratio: number of tested images divided by the number of others; 0 if trainings differ in their
            seeds alone.
    """
    from scipy.stats import t

    mean, spread = float(np.mean(scores)), float(np.std(scores, ddof=1))
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1))
    half = quantile * spread * (1 / len(scores) + ratio) ** 0.5
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    noise = min(1.0, quantile * spread * 2**0.5)
    values = (mean, spread, low, high, noise)
    return Estimate(*(round(value, DIGITS) for value in values))
