"""Resamples of test images for bootstraps, as sums over equal images or over groups of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 250
"""Number of resamples in memory at once."""


@dataclass(frozen=True)
class Units:
    """Images with equal outcomes, counted together, or groups of images."""

    rows: sparse.csr_matrix
    """What is added up for each unit, float64 ``(num_units, num_columns)``."""
    counts: NDArray[np.int64]
    """How often each unit occurs, ``(num_units,)``."""
    strata: list[NDArray[np.int64]]
    """The units that are drawn together: their number is the same in each resample."""


def make_units(
    columns: Sequence[NDArray[np.bool_]],
    outcomes: Sequence[NDArray[np.bool_]],
    groups: NDArray[np.int64] | None,
) -> Units:
    """Return what is drawn: whole groups, or else images, per class if each has one.

    Args:
        columns: what is added up, each ``(n, number of columns)``.
        outcomes: what the columns are computed from, each ``(n, num_classes)``; first the true classes.
        groups: the group of each image, 0 to ``num_groups - 1``, ``(n,)``; None: each is by itself.
    """
    rows = sparse.csr_matrix(np.concatenate(columns, axis=1), dtype=np.float64)
    targets = outcomes[0]
    if groups is not None:
        places = (np.ones(len(targets)), (groups, np.arange(len(targets))))
        rows = (sparse.csr_matrix(places) @ rows).tocsr()
        return Units(rows, np.ones(rows.shape[0], np.int64), [np.arange(rows.shape[0])])
    packed = np.packbits(np.concatenate(outcomes, axis=1), axis=1)
    # as single values, which NumPy sorts faster than rows
    kinds = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, chosen, counts = np.unique(kinds, return_index=True, return_counts=True)
    strata = [np.arange(len(counts))]
    if (targets.sum(axis=1) == 1).all():
        label = targets[chosen].argmax(axis=1)
        strata = [np.flatnonzero(label == index) for index in np.unique(label)]
    return Units(rows[chosen], counts, strata)


def draw(units: Units, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each unit is in each resample, ``(size, num_units)``."""
    drawn = np.empty((size, len(units.counts)), dtype=np.int64)
    for stratum in units.strata:
        counts = units.counts[stratum]
        drawn[:, stratum] = random.multinomial(counts.sum(), counts / counts.sum(), size)
    return drawn
