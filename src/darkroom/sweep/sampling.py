"""The values of each trial: a function of the seed, the number of the trial and earlier results.

A sampler of Optuna keeps a random state, which a killed process loses. Here each trial has a sampler of
its own, seeded by the number of the trial, and shown the results of certain earlier ones. A sweep that
resumes therefore draws the same values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkroom.sweep.definition import Sweep
from darkroom.sweep.space import Point


@dataclass(frozen=True)
class Known:
    """An earlier trial and its score; 0 if it failed."""

    point: Point
    score: float


def draw_point(sweep: Sweep, index: int, history: Sequence[Known]) -> Point:
    """Return the values of a trial; those of trial 0 are in params.yaml.

    Args:
        index: of the trial, from 0.
        history: what the sampler learns from.
    """
    space = sweep.space
    if index == 0:
        return space.current
    if sweep.sampler == "grid":
        return [point for point in space.grid if point != space.current][index - 1]
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(np.random.SeedSequence([sweep.seed, index]).generate_state(1)[0])
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study = optuna.create_study(sampler=samplers[sweep.sampler](seed=seed), direction="maximize")
    for known in history if sweep.sampler == "tpe" else ():
        study.add_trial(
            optuna.trial.create_trial(
                params=to_optuna(sweep, known.point),
                distributions=distributions(sweep, known.point),
                value=known.score,
            )
        )
    trial = study.ask()

    return space.point(lambda one: one.values.suggest(trial, one.name))


def to_optuna(sweep: Sweep, point: Point) -> dict[str, Any]:
    """Return a point as Optuna stores it."""
    return {
        one.name: one.values.to_optuna(point[one.name])
        for one in sweep.space.dimensions
        if one.name in point
    }


def distributions(sweep: Sweep, point: Point) -> dict[str, Any]:
    """Return the distributions of the parameters of a point, for Optuna."""
    return {one.name: one.values.distribution() for one in sweep.space.dimensions if one.name in point}
