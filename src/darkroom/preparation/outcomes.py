"""The outcome of every file: what the listing says of it, joined with what reading it found."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from darkroom.collection.collection import Collection
from darkroom.collection.entry_table import BATCH
from darkroom.collection.sidecars import is_sidecar
from darkroom.preparation.readings import Readings

PROBLEMS = pa.schema([(name, pa.string()) for name in ("path", "label", "outcome", "reason")])
"""The columns of problems.csv."""


def describe_files(collection: Collection, images: Readings) -> Iterator[pa.Table]:
    """Yield the rows of the collection in batches, with the outcome and the facts of each file.

    The columns are those of ``Collection.table`` and ``Readings.facts``, and ``read``, the index
    in ``images``. Facts are null for files that were not read.
    """
    done = 0
    for batch in collection.table.to_batches(BATCH):
        to_read = pc.is_null(batch["outcome"]).to_numpy(zero_copy_only=False)
        reads = np.arange(done, done + to_read.sum())
        done += len(reads)
        facts = images.facts(reads).append_column("read", pa.array(reads))
        facts = facts.take(pa.array(np.cumsum(to_read) - 1, mask=~to_read))
        # the reason that reading gives is more precise than that of the listing
        is_explained = pc.fill_null(pc.not_equal(facts["reason"], ""), False)
        rows = pa.table(batch)
        columns = dict(zip(rows.column_names, rows.columns, strict=True))
        columns |= dict(zip(facts.column_names, facts.columns, strict=True))
        columns["outcome"] = pc.coalesce(rows["outcome"], facts["outcome"])
        columns["reason"] = pc.if_else(is_explained, facts["reason"], rows["reason"])
        if collection.is_labelled_by_folders:
            columns["outcome"] = _mark_sidecars(rows["path"], columns["outcome"])
        yield pa.table(columns)


def _mark_sidecars(paths: pa.ChunkedArray, outcomes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace the outcome of files that are not images and have a sidecar's name."""
    is_no_image = pc.is_in(outcomes, pa.array(["empty", "not an image"]))
    if not pc.any(is_no_image).as_py():
        return outcomes
    is_named = pa.array([is_sidecar(path) for path in paths.to_pylist()])
    return pc.if_else(pc.and_(is_no_image, is_named), "sidecar", outcomes)


def problems_of(rows: pa.Table) -> pa.Table:
    """Return the rows of problems.csv: the files that are not used, and why."""
    not_used = rows.filter(pc.not_equal(rows["outcome"], "used"))
    return not_used.select(PROBLEMS.names).cast(PROBLEMS)


class Outcomes:
    """The number of files with each outcome, and the first file of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, rows: pa.Table) -> None:
        """Count the next rows of ``describe_files``."""
        self.counts.update(rows["outcome"].to_pylist())
        for outcome in self.counts.keys() - self._first.keys():
            row = rows.slice(pc.index(rows["outcome"], outcome).as_py(), 1).to_pylist()[0]
            self._first[outcome] = (row["path"], row["reason"])

    def describe(self, outcome: str) -> str:
        """Return the number of files with an outcome, and the path and reason of the first."""
        path, reason = self._first[outcome]
        return f"{self.counts[outcome]:,} {outcome}, the first: {path}: {reason}"


def write_problems(tables: Iterable[pa.Table], path: Path) -> None:
    """Write problems.csv from rows of ``describe_files``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.csv.CSVWriter(path, PROBLEMS) as writer:
        for rows in tables:
            writer.write_table(problems_of(rows))
