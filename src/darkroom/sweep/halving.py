"""Successive halving: of the trials that were trained so far, the best part is trained further.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016.
All trials are compared at once, so that the choice does not depend on which ended first.
"""

from collections.abc import Sequence

from darkroom.sweep.definition import Sweep
from darkroom.sweep.study import Trial


def num_promoted(sweep: Sweep, num_trials: int) -> int:
    """Return how many of some trials are trained further: one of ``factor``, at least one."""
    return num_trials if sweep.pruning is None else max(1, num_trials // sweep.pruning.factor)


def promoted(trials: Sequence[Trial], epochs: int, count: int) -> list[Trial]:
    """Return the best trials after a number of epochs, by number.

    Of equal scores, the lower number goes first. Trials that failed are never among them.
    """
    able = [one for one in trials if one.state != "failed"]
    best = sorted(able, key=lambda one: (-one.score(epochs), one.index))
    return sorted(best[:count], key=lambda one: one.index)
