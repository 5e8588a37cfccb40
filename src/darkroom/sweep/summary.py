"""What a sweep has found: the best trial, how sure that is, and the files that say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from ruamel.yaml import YAML

from darkroom.errors import UserError, counted
from darkroom.metrics.digits import DIGITS
from darkroom.metrics.resampling import CONFIDENCE
from darkroom.params import flatten, shown
from darkroom.reporting.tables import write_json
from darkroom.sweep.definition import Sweep
from darkroom.sweep.study import Trial
from darkroom.sweep.winner import BEST, SUMMARY
from darkroom.whole_files import whole_file

NUM_SHOWN = 10
"""Number of trials in the terminal's table."""


@dataclass(frozen=True)
class Summary:
    """All trials of a sweep, of which at least one is complete."""

    sweep: Sweep
    trials: Sequence[Trial]
    origin: Mapping[str, Any]
    """What the scores depend on: ``data.digest``, parameters, code and environment."""
    num_validation: int

    @cached_property
    def ranked(self) -> list[Trial]:
        """The complete trials, the best one first; of equal scores, the lower number."""
        complete = [one for one in self.trials if one.state == "complete"]
        return sorted(complete, key=lambda one: (-one.score(), one.index))

    @property
    def best(self) -> Trial:
        return self.ranked[0]

    @property
    def counts(self) -> dict[str, int]:
        """The number of trials in each state that occurs."""
        states = ("complete", "pruned", "failed", "running", "waiting")
        found = {state: sum(one.state == state for one in self.trials) for state in states}
        return {state: count for state, count in found.items() if count}

    @cached_property
    def chance(self) -> float:
        """The standard deviation of a trial's score by chance.

        With several seeds, that of their mean, pooled over trials. With one seed, the standard error of
        the best score by the bootstrap over validation images.
        """
        seeds = self.sweep.num_seeds
        if seeds == 1:
            return self.best.error
        last = self.sweep.rungs[-1]
        variances = [np.var(one.scores[last], ddof=1) for one in self.ranked]
        return float(np.sqrt(np.mean(variances) / seeds))

    @property
    def noise(self) -> float:
        """By how much two equally good trials differ at most, in 95 % of all cases."""
        from scipy.stats import norm, t

        seeds, quantile = self.sweep.num_seeds, (1 + CONFIDENCE) / 2
        degrees = len(self.ranked) * (seeds - 1)
        factor = norm.ppf(quantile) if seeds == 1 else t.ppf(quantile, degrees)
        return min(1.0, float(factor) * 2**0.5 * self.chance)

    @property
    def optimism(self) -> float:
        """By how much the best of as many equally good trials is above their mean, by chance alone.

        The expected maximum of independent normal values (Blom, "Statistical Estimates and Transformed
        Beta-Variables", 1958). Scores on the same images are more alike, so this is an upper estimate.
        """
        from scipy.stats import norm

        count = len(self.trials)
        return self.chance * max(0.0, float(norm.ppf((count - 0.375) / (count + 0.25))))

    def overlay(self, trial: Trial) -> dict[str, Any]:
        """Return the value of each parameter of the space in a trial."""
        base = flatten(self.sweep.space.base)
        names = [one.name for one in self.sweep.space.dimensions]
        return {name: base[name] for name in names} | self.sweep.overlay(trial.index, trial.point)

    @property
    def sentences(self) -> list[str]:
        """What was found, and how far to trust it."""
        best, score = self.best, self.best.score()
        states = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        mean = f", the mean of {self.sweep.num_seeds} seeds" if self.sweep.num_seeds > 1 else ""
        found = [
            f"Trial {best.index} is the best of {counted(len(self.trials), 'trial')} ({states}):"
            f" macro F1 {score:.4f}{mean}, on {counted(self.num_validation, 'validation image')}."
        ]
        current = next((one for one in self.trials if one.index == 0), None)
        if not best.index:
            found.append("That is params.yaml as it is; no other trial was better.")
        elif current is not None:
            when = "" if current.state == "complete" else f", but is {current.state}"
            found.append(f"params.yaml as it is (trial 0) has {current.score():.4f}{when}.")
        found.append(
            "The best of many is too optimistic, because it was chosen by the same images:"
            f" among {len(self.trials)} equally good trials, chance alone lifts it by up to about"
            f" {self.optimism:.4f}. `dvc repro` tells its score on the test images."
        )
        close = sum(score - one.score() <= self.noise for one in self.ranked) - 1
        cause = "other seeds" if self.sweep.num_seeds > 1 else "other validation images"
        found.append(
            f"{counted(close, 'other trial')} cannot be told from it: {cause} change a difference of two"
            f" trials by up to {self.noise:.4f} (95 %)."
        )
        return found

    def table(self) -> Table:
        """Return the best trials."""
        shown_table = Table(box=SIMPLE_HEAD)
        names = [one.name for one in self.sweep.space.dimensions]
        for heading in ("trial", "macro F1", *short_names(names)):
            shown_table.add_column(heading, justify="right", overflow="fold")
        for trial in self.ranked[:NUM_SHOWN]:
            values = self.overlay(trial)
            shown_table.add_row(
                f"{trial.index}", f"{trial.score():.4f}", *(text_of(values[name]) for name in names)
            )
        return shown_table

    def to_json(self) -> dict[str, Any]:
        """Return all figures in values that JSON can hold."""
        return {
            "name": self.sweep.name,
            "sampler": self.sweep.sampler,
            "seeds": self.sweep.num_seeds,
            "rungs": self.sweep.rungs,
            "origin": dict(self.origin),
            "num_validation": self.num_validation,
            "best": self.best.index,
            "noise": round(self.noise, DIGITS),
            "optimism": round(self.optimism, DIGITS),
            "trials": [
                {
                    "trial": one.index,
                    "state": one.state,
                    "f1_macro": round(one.score(), DIGITS),
                    "scores": {f"{epochs}": scores for epochs, scores in one.scores.items()},
                    "params": self.overlay(one),
                    "failure": one.failure,
                }
                for one in self.trials
            ],
        }


def short_names(names: Sequence[str]) -> list[str]:
    """Return names of parameters without their sections, unless two would be the same."""
    keys = [name.partition(".")[2] for name in names]
    return [key if keys.count(key) == 1 else name for name, key in zip(names, keys, strict=True)]


def text_of(value: Any) -> str:
    """Return a parameter's value for a table."""
    return value if isinstance(value, str) else shown(value)


def summarise(
    sweep: Sweep, trials: Sequence[Trial], origin: Mapping[str, Any], num_validation: int
) -> Summary:
    """Return the summary of trials.

    Raises:
        UserError: all trials failed.
    """
    if not any(one.state == "complete" for one in trials):
        reasons = dict.fromkeys(f"trial {one.index}: {one.failure}" for one in trials if one.failure)
        raise UserError("sweep: no trial could be trained to its end; " + "; ".join([*reasons][:3]))
    return Summary(sweep, trials, origin, num_validation)


def write_best(summary: Summary, folder: Path) -> None:
    """Write the values of the best trial as a recipe, and all figures as JSON."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in summary.overlay(summary.best).items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    with whole_file(folder / BEST) as part, part.open("w", encoding="utf-8") as file:
        for sentence in summary.sentences:
            file.write(f"# {sentence}\n")
        yaml.dump(sections, file)
    with whole_file(folder / SUMMARY) as part:
        write_json(summary.to_json(), part)
