"""Reads the hourly log of ``darkroom serve`` to test it for drift."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from darkroom.comparison.drift import Sample, counted_labels
from darkroom.comparison.drift_tables import SEPARATOR
from darkroom.errors import UserError, counted
from darkroom.prediction.hourly import EDGES, Hour, bins_of, read_hours


@dataclass(frozen=True)
class Log:
    """The rows of one model in a log."""

    hours: Sequence[Hour]
    num_others: int
    """Number of hours of earlier models, which are not used."""


def load_log(folder: Path, since: datetime | None = None, until: datetime | None = None) -> Log:
    """Return the rows of the model that was used last.

    Args:
        since, until: the first hour, and the one after the last; None: all.

    Raises:
        UserError: a file is damaged, or there is no row.
    """
    found = [
        hour
        for hour in read_hours(folder)
        if (since is None or hour.start >= since) and (until is None or hour.start < until)
    ]
    if not found:
        raise UserError(
            f"{folder}: has no hour of a log"
            + (" between the times that are given" if since or until else "")
            + "; give a folder of `darkroom serve --log`, or a table"
        )
    newest = max(found, key=lambda hour: hour.start).model
    others = {hour.start for hour in found if hour.model != newest}
    return Log([hour for hour in found if hour.model == newest], len(others))


def sample_of(log: Log) -> Sample:
    """Return the predictions in a log, of which each number is the lower edge of its bin.

    Raises:
        UserError: an hour lacks numbers that another one has.
    """
    answers: Counter[str] = Counter()
    bins: dict[str, Counter[int]] = {name: Counter() for name in EDGES}
    for hour in log.hours:
        answers[hour.answer] += hour.row.count
        for name, found in hour.row.bins.items():
            bins[name].update(found)
    numbers = {
        name: np.repeat(EDGES[name][list(found)], list(found.values())).astype(np.float64)
        for name, found in bins.items()
        if found
    }
    if short := [name for name, values in numbers.items() if len(values) != sum(answers.values())]:
        raise UserError(f"the log lacks {short[0]} of {counted(sum(answers.values()), 'prediction')}")
    # a model of several labels has no confidence
    labels = answers if "confidence" in numbers else counted_labels(answers, SEPARATOR)
    return Sample(answers, labels, numbers)


def binned(sample: Sample) -> Sample:
    """Return predictions with the lower edge of its bin in place of each number, as in a log.

    The tests of Kolmogorov and Smirnov then compare the distribution functions at the edges, which makes
    them conservative: equal values never raise more false alarms.
    """
    numbers = {name: EDGES[name][bins_of(name, values)] for name, values in sample.numbers.items()}
    return replace(sample, numbers=numbers)
