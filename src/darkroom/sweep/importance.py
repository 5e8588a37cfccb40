"""How much of the differences between trials each parameter explains.

Functional ANOVA of a random forest (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing
Hyperparameter Importance", 2014), by Optuna.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.sweep.definition import Sweep
from darkroom.sweep.sampling import distributions, to_optuna
from darkroom.sweep.study import Trial

MIN_TRIALS = 10
"""Number of trials from which importances are estimated."""

NUM_RESAMPLES = 20
NUM_TREES = 32


@dataclass(frozen=True)
class Importance:
    """The share of the variance of scores that a parameter explains alone, 0..1."""

    name: str
    share: float
    """The median over resamples of the trials."""
    low: float
    high: float
    """The ends of nine tenths of the resamples."""


def importances(sweep: Sweep, trials: Sequence[Trial]) -> list[Importance]:
    """Return the importance of each parameter that all trials have, the largest first.

    Scores are those after the first rung, which all trials have reached. Empty if there are too few
    trials, or all have the same score.
    """
    import optuna

    first = sweep.rungs[0]
    usable = [one for one in trials if first in one.scores and sweep.space.has_all(one.point)]
    names = {one.name for one in sweep.space.dimensions if not one.when and len(one.values.ends()) > 1}
    if len(usable) < MIN_TRIALS or not names or len({one.score(first) for one in usable}) == 1:
        return []
    random = np.random.Generator(np.random.Philox(0))
    shares: dict[str, list[float]] = {name: [] for name in names}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for number in range(NUM_RESAMPLES):
        drawn = [usable[row] for row in random.integers(len(usable), size=len(usable))]
        if len({one.score(first) for one in drawn}) == 1:
            continue
        study = optuna.create_study(direction="maximize")
        for one in drawn:
            study.add_trial(
                optuna.trial.create_trial(
                    params=to_optuna(sweep, one.point),
                    distributions=distributions(sweep, one.point),
                    value=one.score(first),
                )
            )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=number)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(names))
        for name, share in found.items():
            shares[name].append(share)
    result = [
        Importance(name, *(float(value) for value in np.percentile(of_name, (50, 5, 95))))
        for name, of_name in shares.items()
    ]
    return sorted(result, key=lambda one: (-one.share, one.name))
