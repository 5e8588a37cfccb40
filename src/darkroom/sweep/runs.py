"""The runs of a sweep in MLflow: one for all trials, with a child for each, logged when it is over."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.config.train import TrainConfig
from darkroom.params import flatten
from darkroom.paths import PREPARED
from darkroom.runtime import Runtime
from darkroom.sweep.definition import Sweep
from darkroom.sweep.study import Trial
from darkroom.sweep.summary import Summary
from darkroom.sweep.training import Outcome
from darkroom.sweep.winner import BEST, REPORT, SUMMARY
from darkroom.tracking.destinations import tracked_once
from darkroom.tracking.run import Run
from darkroom.training.history import History

LOGGED = "logged"
"""Folder with a file for each run that was logged, and the names of journals of those that were not."""

PARENT = "sweep"


class Runs:
    """Logs trials in a thread of its own, each once, whenever the sweep is killed."""

    def __init__(self, sweep: Sweep, folder: Path, digest: str, runtime: Runtime, parent: Run) -> None:
        self._sweep, self._folder, self._digest = sweep, folder, digest
        self._runtime, self._parent = runtime, parent
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="runs")

    def log(self, trial: Trial, config: TrainConfig | None, outcomes: Sequence[Outcome]) -> None:
        """Log a trial that is over, unless it was logged before.

        Args:
            config: None if its values do not go together.
            outcomes: of its seeds; may be empty.
        """
        self._pool.submit(self._log, trial, config, outcomes)

    def finish(self, summary: Summary) -> None:
        """Log the figures and files of the whole sweep, and wait until all trials are logged."""
        self._pool.shutdown(wait=True)
        best = summary.best
        self._parent.log_metrics(
            {
                "sweep/f1_macro": best.score(),
                "sweep/trial": best.index,
                "sweep/num_trials": len(summary.trials),
                "sweep/optimism": summary.optimism,
                "sweep/noise": summary.noise,
            }
        )
        for trial in summary.trials:
            if trial.state == "complete":
                self._parent.log_metrics({"sweep/f1_macro_of_trial": trial.score()}, trial.index)
        self._parent.log_params({f"best.{name}": value for name, value in summary.overlay(best).items()})
        for name in (BEST, SUMMARY, REPORT):
            if (self._folder / name).exists():
                self._parent.log_file(self._folder / name)

    def close(self) -> None:
        """Finish the run that is being logged; others are logged by the next command."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _log(self, trial: Trial, config: TrainConfig | None, outcomes: Sequence[Outcome]) -> None:
        subject = f"{self._sweep.name} trial {trial.index}"
        mark = self._folder / LOGGED / f"{trial.index}"
        with tracked_once(PARENT, self._runtime, subject, mark) as run:
            run.log_input(self._folder, self._digest, as_child=True)
            run.log_tags(
                {"sweep": self._sweep.name, "trial": f"{trial.index}", "trial.state": trial.state}
            )
            if trial.failure:
                run.log_tags({"failure": trial.failure})
            overlay = self._sweep.overlay(trial.index, trial.point)
            run.log_params(overlay if config is None else flatten(config))
            if outcomes:
                _log_curves(run, outcomes[0])
            else:
                for epoch, score in trial.curve.items():
                    run.log_metrics({"val/f1_macro": score}, epoch)
            if trial.scores:
                for number, score in enumerate(trial.scores[max(trial.scores)]):
                    run.log_metrics({"sweep/f1_macro_of_seed": score}, number)
                run.log_metrics({"sweep/f1_macro": trial.score(), "sweep/epochs": max(trial.scores)})


def _log_curves(run: Run, outcome: Outcome) -> None:
    history = History(num_earlier=len(outcome.results))
    for result in outcome.results:
        history.add(result)
        run.log_metrics(history.metrics(), result.epoch)
    run.log_metrics({"sweep/seconds": outcome.seconds})


@contextmanager
def open_runs(sweep: Sweep, folder: Path, origin: Mapping[str, Any], runtime: Runtime) -> Iterator[Runs]:
    """Open the run of a sweep, or resume that of a command that was killed.

    Args:
        folder: of the sweep.
        origin: see ``Summary``.
    """
    digest = hashlib.sha256(json.dumps([sweep.name, origin], sort_keys=True).encode()).hexdigest()
    with tracked_once(PARENT, runtime, sweep.name, folder / LOGGED / PARENT) as parent:
        parent.log_output(folder, digest)
        parent.log_input(PREPARED, f"{origin['data.digest']}")
        parent.log_params({name: value for name, value in origin.items() if name != "space"})
        parent.log_params({f"space.{one.name}": _text(one.values) for one in sweep.space.dimensions})
        parent.log_params({"trials": sweep.num_trials})
        runs = Runs(sweep, folder, digest, runtime, parent)
        try:
            yield runs
        finally:
            runs.close()


def _text(values: Any) -> str:
    found = values.values if hasattr(values, "values") else vars(values)
    return json.dumps(found)
