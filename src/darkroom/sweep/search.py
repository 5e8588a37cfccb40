"""Run the trials of a sweep: draw, train, compare, and continue wherever an earlier process ended."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

from darkroom.config.params import Params
from darkroom.config.train import TrainConfig
from darkroom.parallel import OrderedMap, ordered_map
from darkroom.progress import Bar
from darkroom.runtime import Runtime
from darkroom.sweep.definition import Sweep
from darkroom.sweep.halving import num_promoted, promoted
from darkroom.sweep.sampling import Known, draw_point
from darkroom.sweep.study import Study, TakenOver, Trial
from darkroom.sweep.training import Outcome, Unit, train_unit


def config_of(sweep: Sweep, trial: Trial) -> TrainConfig | str:
    """Return what a trial is trained with, or why its values do not go together."""
    params = sweep.space.params(sweep.overlay(trial.index, trial.point))
    if isinstance(params, Params):
        return TrainConfig.of(params)
    return "; ".join(problem for _, problem in params)


def configs_of(sweep: Sweep, config: TrainConfig) -> list[TrainConfig]:
    """Return the trainings of a trial, which differ in their seeds."""
    seeds = range(config.seed, config.seed + sweep.num_seeds)
    return [config.model_copy(update={"seed": seed}) for seed in seeds]


def num_epochs(sweep: Sweep) -> int:
    """Return the number of epochs of all trainings together."""
    total, before, size = 0, 0, sweep.num_trials
    for epochs in sweep.rungs:
        total += size * sweep.num_seeds * (epochs - before)
        before, size = epochs, num_promoted(sweep, size)
    return total


POLL_SECONDS = 1.0
"""Interval at which the trials of other machines are looked at, at the end of a sweep."""


class Search:
    """The trials of a sweep, and how they are trained.

    Args:
        root: folder for checkpoints and results of trainings.
        log: file to which trainings print.
        bar: counts epochs.
        apply: applies a function to trainings.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        runtime: Runtime,
        root: Path,
        log: Path,
        bar: Bar,
        apply: OrderedMap = ordered_map,
    ) -> None:
        self._sweep, self._study, self._bar, self._apply = sweep, study, bar, apply
        self._met: set[int] = set()
        self._train = partial(train_unit, runtime=runtime, root=root, log=log)

    def run(self) -> Iterator[Trial]:
        """Train all trials; yield each that has its final state once, also those of an earlier process.

        Raises:
            WorkerKilled: a worker process was killed.
        """
        seen: set[int] = set()
        for trial in self._rungs():
            if trial.index not in seen:  # one that ended in an earlier process is met at each rung
                seen.add(trial.index)
                yield trial

    def _rungs(self) -> Iterator[Trial]:
        rungs = self._sweep.rungs
        yield from self._rung(self._all(), rungs[0], 0)
        while self._waits_for_others():
            yield from self._rung(self._all(), rungs[0], 0)
        for before, epochs in pairwise(rungs):
            reached = [one for one in self._study.trials() if before in one.scores]
            better = promoted(reached, before, num_promoted(self._sweep, len(reached)))
            kept = {one.index for one in better}
            for one in reached:
                if one.state == "running" and one.index not in kept:
                    yield self._study.finish(one, "pruned")
            yield from self._rung(iter(better), epochs, before)

    def _all(self) -> Iterator[Trial]:
        """Yield every trial that this machine trains, once; each is drawn when it is taken."""
        for index in range(self._sweep.num_trials):
            known = {one.index: one for one in self._study.trials()}
            trial = known.get(index)
            if trial is None:
                point = self._study.given_up(index)
                if point is None:
                    history = self._history([*known.values()], index)
                    point = draw_point(self._sweep, index, history)
                trial = self._study.add(index, point)
            elif trial.state == "waiting":
                trial = self._study.take(trial)
            if trial is not None and self._study.owns(trial) and trial.id not in self._met:
                self._met.add(trial.id)
                if trial.state == "running":
                    self._study.begin(trial)
                yield trial

    def _waits_for_others(self) -> bool:
        """Wait until a trial of another machine is over or lost; return False if all are over."""
        told: set[str] = set()
        while self._study.is_shared:
            self._study.give_up_lost()
            trials = self._study.trials()
            running = [one for one in trials if one.state == "running" and one.id not in self._met]
            if len(trials) < self._sweep.num_trials or any(one.state == "waiting" for one in trials):
                return True
            if not running:
                return False
            waits = f"waiting for trial {running[0].index} of {running[0].worker}"
            if waits not in told:
                told.add(waits)
                self._bar.note(waits)
            time.sleep(POLL_SECONDS)
        return False

    def _history(self, trials: list[Trial], index: int) -> list[Known]:
        """Return what the sampler learns from: trials that are over whenever others end."""
        first = self._sweep.rungs[0]
        return [
            Known(one.point, one.score(first))
            for one in trials
            if one.index <= index - self._sweep.jobs
            and (one.scores or one.state == "failed")
            and self._sweep.space.has_all(one.point)
        ]

    def _rung(self, trials: Iterator[Trial], epochs: int, before: int) -> Iterator[Trial]:
        """Train trials from the epoch after ``before`` to ``epochs``; yield those that are over."""
        waiting: list[Trial] = []
        over: list[Trial] = []
        sweep = self._sweep

        def units() -> Iterator[Unit]:
            for trial in trials:
                if trial.state == "running" and epochs not in trial.scores:
                    config = config_of(sweep, trial)
                    if isinstance(config, TrainConfig):
                        waiting.append(trial)
                        yield from (Unit(one, epochs) for one in configs_of(sweep, config))
                        continue
                    with suppress(TakenOver):
                        trial = self._study.finish(trial, "failed", config)
                self._bar.advance((epochs - before) * sweep.num_seeds)
                if trial.state != "running":
                    over.append(trial)

        # only with so few is it certain what the sampler knows of
        most = sweep.jobs if sweep.sampler == "tpe" else None
        found: list[Outcome] = []
        for outcome in self._apply(self._train, units(), sweep.jobs, most):
            self._bar.advance(epochs - before)
            found.append(outcome)
            if len(found) == sweep.num_seeds:
                trial = self._take(waiting.pop(0), found, epochs)
                found = []
                if trial.state != "running":
                    yield trial
            yield from over
            over.clear()
        yield from over

    def _take(self, trial: Trial, outcomes: list[Outcome], epochs: int) -> Trial:
        """Store what a trial's seeds have scored; return it, unchanged if it was taken over."""
        try:
            return self._stored(trial, outcomes, epochs)
        except TakenOver:
            self._bar.note(f"trial {trial.index} was taken over by another machine")
            return trial

    def _stored(self, trial: Trial, outcomes: list[Outcome], epochs: int) -> Trial:
        failure = next((one.failure for one in outcomes if one.failure), "")
        if failure:
            self._bar.note(f"trial {trial.index} failed")
            return self._study.finish(trial, "failed", failure)
        shortest = min(len(one.results) for one in outcomes)
        curve = {
            number + 1: sum(one.results[number].val_f1_macro for one in outcomes) / len(outcomes)
            for number in range(shortest)
        }
        scores, error = [one.score for one in outcomes], outcomes[0].standard_error
        trial = self._study.report(trial, epochs, scores, curve, error)
        self._bar.note(f"trial {trial.index}: {trial.score():.4f}")
        return self._study.finish(trial, "complete") if epochs == self._sweep.rungs[-1] else trial
