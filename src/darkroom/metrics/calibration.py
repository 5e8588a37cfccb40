"""How far probabilities can be trusted: log-likelihood, Brier score and calibration error."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.digits import DIGITS

Array = NDArray[np.float64]

NUM_BINS = 15
"""Number of bins, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""


class Reliability(NamedTuple):
    """Bins of similar confidence with about the same number of decisions, by rising confidence."""

    confidence: Array
    """Mean confidence, 0..1, ``(num_bins,)``."""
    accuracy: Array
    """Share of correct decisions, 0..1, ``(num_bins,)``."""
    counts: NDArray[np.int64]
    """Number of decisions, ``(num_bins,)``; at least 1."""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance, weighted by the number of decisions."""
        distances = np.abs(self.accuracy - self.confidence)
        return float((distances * self.counts).sum() / self.counts.sum())


def reliability(confidences: Array, is_correct: NDArray[np.bool_]) -> Reliability:
    """Return equal-mass bins of decisions.

    The bounds of the bins are quantiles of the confidences, interpolated as by ``numpy.quantile``; a
    confidence at a bound belongs to the lower bin, so equal ones stay together. This is
    scikit-learn's ``calibration_curve`` with ``strategy="quantile"``.

    Args:
        confidences: 0..1, ``(n,)``: what the probability of being correct should be.
        is_correct: ``(n,)``.
    """
    bounds = np.quantile(confidences, np.linspace(0, 1, NUM_BINS + 1))
    bins = np.searchsorted(bounds[1:-1], confidences)
    counts = np.bincount(bins, minlength=NUM_BINS)
    taken = counts > 0
    confidence, accuracy = (
        np.bincount(bins, values, NUM_BINS)[taken] / counts[taken]
        for values in (confidences, is_correct)
    )
    return Reliability(confidence, accuracy, counts[taken])


def class_reliability(targets: NDArray[np.int64], probabilities: Array) -> Reliability:
    """Return the reliability of the predicted classes.

    Args:
        targets: ``(n,)``.
        probabilities: ``(n, num_classes)``, rows summing to 1.
    """
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets)


def class_calibration(targets: NDArray[np.int64], probabilities: Array) -> dict[str, float]:
    """Return ``nll``, ``brier`` and ``ece`` for one class per image, rounded to six digits.

    ``nll`` is the mean negative log-likelihood in nats; probabilities are clipped at float64's epsilon,
    as by scikit-learn's ``log_loss``. ``brier`` is the mean over images of the squared distance between
    the probabilities and the true class, 0..2 (Brier, 1950; scikit-learn's ``brier_score_loss`` with
    ``scale_by_half=False``). ``ece`` is the error of ``class_reliability``.

    Args:
        targets, probabilities: as in ``class_reliability``.
    """
    own = probabilities[np.arange(len(targets)), targets]
    squares = (probabilities**2).sum(axis=1) - 2 * own + 1
    return _rounded(
        float(-np.log(_clipped(own)).mean()),
        float(squares.mean()),
        class_reliability(targets, probabilities).error,
    )


def label_calibration(targets: NDArray[np.bool_], probabilities: Array) -> dict[str, float]:
    """Return ``nll``, ``brier`` and ``ece`` of labels: means over labels, rounded to six digits.

    Each label is a binary decision. The Brier score of a label is in 0..1, and its calibration error
    compares the label's probability with the share of images that have the label.

    Args:
        targets: ``(n, num_labels)``.
        probabilities: ``(n, num_labels)``.
    """
    likelihoods = np.where(targets, probabilities, 1 - probabilities)
    errors = [reliability(*columns).error for columns in zip(probabilities.T, targets.T, strict=True)]
    return _rounded(
        float(-np.log(_clipped(likelihoods)).mean()),
        float(((probabilities - targets) ** 2).mean()),
        float(np.mean(errors)),
    )


def _clipped(probabilities: Array) -> Array:
    epsilon = np.finfo(np.float64).eps
    return probabilities.clip(epsilon, 1 - epsilon)


def _rounded(nll: float, brier: float, ece: float) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in (("nll", nll), ("brier", brier), ("ece", ece))}
