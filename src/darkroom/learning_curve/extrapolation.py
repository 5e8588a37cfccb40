"""A power law through the errors of several sizes of training data, and what it says of more data.

The error of a network falls with the number ``n`` of training images as ``a + b n^-c`` (Hestness et al.,
"Deep Learning Scaling is Predictable, Empirically", 2017). The exponent is searched on a grid, because
for each exponent the best ``a`` and ``b``, neither negative, are those of a line. Four or five sizes
hardly determine three numbers. Exponents therefore end at 1, and what remains uncertain is in the
intervals: curves are fitted to resampled errors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPONENTS = np.arange(1, 21) / 20
"""From 0.05 to 1. Hestness et al. found 0.07 to 0.35 for large data; 1 is the fastest rate in theory."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaws:
    """Fitted curves ``error = a + b (n / largest)^-c``; arrays have the shape ``(m,)``."""

    a: Floats
    """The error that is left with any number of images, at least 0."""
    b: Floats
    """What more images could remove of the error at the largest size, at least 0."""
    c: Floats

    def errors(self, ratio: float | Floats) -> Floats:
        """Return the errors at a size relative to the largest, ``(m,)`` or ``(m, len(ratio))``."""
        a, b, c = (part if np.ndim(ratio) == 0 else part[:, None] for part in (self.a, self.b, self.c))
        return np.asarray(a + b * np.asarray(ratio, float) ** -c)

    def gain(self, ratio: float) -> Floats:
        """Return by how much the error falls from the largest size to ``ratio`` times as many images."""
        return self.errors(1.0) - self.errors(ratio)


def fit_power_laws(sizes: NDArray[np.int64], errors: Floats, variances: Floats) -> PowerLaws:
    """Fit a power law to each row of errors by weighted least squares.

    With three sizes, ``a`` is 0.

    Args:
        sizes: numbers of images, ascending, ``(k,)``, at least three.
        errors: ``(m, k)``.
        variances: of the errors of each size, above 0, ``(k,)``.
    """
    weights = 1 / variances
    best = np.full((4, len(errors)), np.inf)
    for exponent in EXPONENTS:
        x = (sizes / sizes[-1]) ** -exponent
        a, b = _line(x, errors, weights, through_origin=len(sizes) < 4)
        loss = ((errors - a[:, None] - b[:, None] * x) ** 2 * weights).sum(axis=1)
        found = np.stack([loss, a, b, np.full(len(errors), exponent)])
        best = np.where(loss < best[0], found, best)
    return PowerLaws(*best[1:])


def _line(x: Floats, y: Floats, weights: Floats, through_origin: bool) -> tuple[Floats, Floats]:
    """Return the best intercepts and slopes, neither negative, of ``y = a + b x`` for each row of y."""
    total, mean_x, mean_y = weights.sum(), np.average(x, weights=weights), y @ weights / weights.sum()
    covariance = y @ (weights * (x - mean_x)) / total
    slope = np.maximum(covariance / np.average((x - mean_x) ** 2, weights=weights), 0)
    intercept = mean_y - slope * mean_x
    alone = np.maximum(y @ (weights * x) / (weights @ x**2), 0)
    is_negative = (intercept < 0) | through_origin
    return np.where(is_negative, 0, intercept), np.where(is_negative, alone, slope)


def spread_of_trainings(sizes: NDArray[np.int64], repeats: Floats, variances: Floats) -> Floats:
    """Return the standard deviation of a mean over repeats by the choice of images and of the seed.

    The error of each training is taken to vary in proportion to its size: by what repeats say, or with a
    single repeat by the distances from the fitted curve.

    Args:
        repeats: errors, ``(num_repeats, k)``.
        variances: see ``fit_power_laws``.

    Returns:
        ``(k,)``
    """
    num_repeats, num_sizes = repeats.shape
    mean = repeats.mean(axis=0)
    scale = np.maximum(mean, np.sqrt(variances))
    if num_repeats > 1:
        relative = np.sqrt((repeats.var(axis=0, ddof=1) / scale**2).mean())
    else:
        fitted = fit_power_laws(sizes, mean[None], variances).errors(sizes / sizes[-1])[0]
        freedom = num_sizes - (2 if num_sizes < 4 else 3)
        relative = np.sqrt((((mean - fitted) / scale) ** 2).sum() / freedom)
    return np.asarray(relative * scale / np.sqrt(num_repeats))
