"""Temperature scaling: calibrated probabilities from the logits of validation images.

After Guo et al., "On Calibration of Modern Neural Networks" (2017). docs/decisions/0029-calibration.md
explains the two safeguards.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0

DIGITS = 4
"""Significant digits of a temperature: the last digits of a sum of floats depend on the processor."""

MIN_GAIN = 1.92
"""Minimum gain of the log-likelihood in nats, half the 95 % quantile of chi-squared with one degree."""

MAX_VALUES = 10_000_000
"""Maximum number of logits in a fit; of more images, evenly spaced ones are used."""


def fit_temperatures(logits: NDArray[np.float64], targets: NDArray[Any]) -> tuple[float, ...]:
    """Return the temperature of each label, as ``fit_temperature`` chooses it.

    Args:
        logits: of the validation images, ``(n, num_labels)``.
        targets: 0 and 1, ``(n, num_labels)``.
    """
    labels = targets.astype(np.int64)
    return tuple(
        fit_temperature(np.stack((np.zeros(len(logits)), logits[:, label]), axis=1), labels[:, label])
        for label in range(labels.shape[1])
    )


def fit_temperature(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Return the temperature that maximises the likelihood, with two safeguards.

    Logits are not sharpened beyond the temperature at which the mean confidence equals the accuracy by
    Laplace's rule of succession, ``(correct + 1) / (n + 2)``. The temperature is 1 if the likelihood
    ratio test (5 %) does not reject 1, or if all images are of one class.

    Args:
        logits: ``(n, num_classes)``, at least two classes.
        targets: int64 ``(n,)``.

    Returns:
        A number in 0.1..10, rounded to four significant digits.
    """
    if len(np.unique(targets)) < 2 or not np.isfinite(logits).all():
        return 1.0
    step = -(-logits.size // MAX_VALUES)
    logits, targets = logits[::step], targets[::step]
    margins = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(margins, targets[:, None], axis=1)[:, 0]

    def likelihood(sharpness: float) -> float:
        return float((sharpness * of_truth - _log_sums(sharpness * margins)).sum())

    def slope(sharpness: float) -> float:
        powers = np.exp(sharpness * margins)
        means = (powers * margins).sum(axis=1) / powers.sum(axis=1)
        return float((of_truth - means).sum())

    def excess(sharpness: float) -> float:
        highest = np.exp(-_log_sums(sharpness * margins))
        return (np.count_nonzero(of_truth == 0) + 1) / (len(targets) + 2) - float(highest.mean())

    sharpness = _root(slope)
    if sharpness > 1:
        sharpness = max(min(sharpness, _root(excess)), 1.0)
    temperature = float(f"{1 / sharpness:.{DIGITS}g}")
    gain = likelihood(1 / temperature) - likelihood(1.0)
    return temperature if gain >= MIN_GAIN else 1.0


def _log_sums(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the sum of the powers of each row, whose maximum is 0."""
    return np.log(np.exp(margins).sum(axis=1))


def _root(function: Callable[[float], float]) -> float:
    """Return where a falling function of 1 / temperature is 0, or the end that is closest to it."""
    from scipy.optimize import brentq  # its import takes a third of a second

    lowest, highest = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if function(lowest) <= 0:
        return lowest
    if function(highest) >= 0:
        return highest
    return float(brentq(function, lowest, highest))
