"""Counts of predictions by hour, which a server writes and ``darkroom drift`` reads.

A file has the rows of one process and one hour (UTC), a line of JSON for each model and answer: how
often it was predicted, and histograms of confidence and unfamiliarity. The process rewrites the file of
the current hour in one step, so that a kill loses what came after the last time, and no line is torn.
The name of the file is random, so that several processes may write into one folder.
"""

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, brief
from darkroom.whole_files import whole_file

SUFFIX = ".hours.jsonl"

EDGES = {
    # of 0.01, and of 0.0001 above 0.99, where the confidences of a good model are
    "confidence": np.round(np.concatenate([np.arange(99) / 100, 0.99 + np.arange(101) / 10_000]), 4),
    "unfamiliarity": np.round(np.concatenate([np.arange(200) / 100, np.arange(20, 100) / 10]), 2),
}
"""Lower edges of the bins of the histograms; the last bin of ``unfamiliarity`` has no end."""

MAX_ANSWERS = 1_000
"""Number of answers of a model that are counted by themselves in an hour."""

OTHERS = "(others)"
"""Counts what exceeds ``MAX_ANSWERS``, which only combinations of labels do."""

MAX_HOURS = 24
"""Number of hours that are kept in memory while they cannot be written."""

_HOUR = "%Y-%m-%dT%H:00Z"


def bins_of(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each value, int64 ``(n,)``.

    Args:
        name: a key of ``EDGES``.
    """
    # rounded as tables are, so that 0.29 is not in the bin below
    found: NDArray[np.int64] = np.searchsorted(EDGES[name], np.round(values, 4), side="right") - 1
    return np.maximum(found, 0)


@dataclass
class Row:
    """What was counted of one answer of one model in an hour."""

    count: int = 0
    bins: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in EDGES})
    """How many values are in each bin, by the keys of ``EDGES``."""


@dataclass(frozen=True)
class Hour:
    """One row of a log."""

    start: datetime
    model: str
    """SHA-256 of the model file."""
    answer: str
    row: Row


class HourlyLog:
    """Counts predictions by hour, from any thread.

    Args:
        folder: of the log; it is created.
        clock: returns the time, with its zone.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._name = secrets.token_hex(4)
        self._clock = clock
        self._lock = threading.Lock()
        self._hours: dict[datetime, dict[tuple[str, str], Row]] = {}
        self._changed: set[datetime] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{self._name}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"--log {folder}: cannot be written ({error.strerror or error})") from None

    def add(self, model: str, answer: str, **numbers: float | None) -> None:
        """Count a prediction.

        Args:
            model: SHA-256 of the model file.
            answer: the class, or the labels, joined by ``|``.
            numbers: by the keys of ``EDGES``; None: the model has none.
        """
        hour = self._clock().replace(minute=0, second=0, microsecond=0)
        with self._lock:
            rows = self._hours.setdefault(hour, {})
            if (model, answer) not in rows and len(rows) >= MAX_ANSWERS:
                answer = OTHERS
            row = rows.setdefault((model, answer), Row())
            row.count += 1
            for name, number in numbers.items():
                if number is not None and np.isfinite(number):
                    row.bins[name][int(bins_of(name, np.array([number]))[0])] += 1
            self._changed.add(hour)
            while len(self._hours) > MAX_HOURS:
                self._hours.pop(min(self._hours))

    def write(self) -> None:
        """Write what is new; raise OSError on failure, after which the counts are kept in memory."""
        with self._lock:
            files = {
                hour: "".join(_line(hour, *key, row) for key, row in self._hours[hour].items())
                for hour in self._changed & self._hours.keys()
            }
            self._changed.clear()
        try:
            for hour, text in files.items():
                with whole_file(self._folder / f"{hour:%Y-%m-%dT%H}-{self._name}{SUFFIX}") as part:
                    part.write_text(text, encoding="utf-8")
        except OSError:
            with self._lock:
                self._changed |= files.keys()
            raise
        with self._lock:
            for hour in [one for one in self._hours if one != max(self._hours)]:
                if hour not in self._changed:
                    del self._hours[hour]


def _line(hour: datetime, model: str, answer: str, row: Row) -> str:
    bins = {
        name: [[float(EDGES[name][at]), count] for at, count in sorted(found.items())]
        for name, found in row.bins.items()
    }
    told = {"hour": f"{hour:{_HOUR}}", "model": model, "answer": answer, "count": row.count, **bins}
    return json.dumps(told) + "\n"


def read_hours(folder: Path) -> Iterator[Hour]:
    """Yield the rows of all files of a log, in the order of their names.

    Raises:
        UserError: a file is damaged, or cannot be read.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield _parse(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a log of `darkroom serve --log` ({brief(error)})") from None


def _parse(line: dict[str, Any]) -> Hour:
    row = Row(int(line["count"]))
    for name in EDGES:
        lowest, counts = zip(*line[name], strict=True) if line[name] else ((), ())
        places = bins_of(name, np.array(lowest, np.float64)).tolist()
        row.bins[name].update(dict(zip(places, map(int, counts), strict=True)))
    start = datetime.strptime(line["hour"], _HOUR).replace(tzinfo=UTC)
    return Hour(start, str(line["model"]), str(line["answer"]), row)
