"""What was found, in a form that people read: the ranked table, and its summary."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.rows import column_names, read_rows
from darkroom.errors import UserError, listed
from darkroom.suspects.confident import Probabilities
from darkroom.suspects.targets.interface import SuspectsTarget

COLUMNS = (
    "rank",
    "path",
    "split",
    "label",
    "suggested",
    "p_label",
    "p_suggested",
    "is_suspect",
    "new_label",
    "exclude",
)
"""Columns of the table. ``new_label`` and ``exclude`` are for people to fill in; empty: all stays."""

YES, NO = ("yes", "true", "x", "1"), ("no", "false", "0", "")
"""What ``exclude`` may hold, in any case."""

DIGITS = 4


@dataclass(frozen=True)
class Finding:
    """One image and what speaks against its label."""

    index: int
    """Position among the train and val images."""
    path: str
    split: str
    label: str
    suggested: str
    p_label: float
    p_suggested: float
    is_suspect: bool


@dataclass(frozen=True)
class Findings:
    """All images that were judged, the most doubtful first."""

    ranked: list[Finding]
    num_unjudged: int
    """Number of images whose label occurs in no other fold."""
    estimate: int
    """Estimated number of wrong labels: the off-diagonal of the confident joint."""

    @property
    def suspects(self) -> list[Finding]:
        return [finding for finding in self.ranked if finding.is_suspect]

    def confusions(self) -> list[tuple[str, str, int]]:
        """Return label, suggestion and number of suspects, the most frequent first."""
        pairs = Counter((one.label, one.suggested) for one in self.suspects)
        return [(*pair, count) for pair, count in pairs.most_common()]

    def write(self, file: TextIO) -> None:
        """Write the table as CSV."""
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for rank, one in enumerate(self.ranked, 1):
            numbers = [f"{one.p_label:.{DIGITS}f}", f"{one.p_suggested:.{DIGITS}f}"]
            flag = "yes" if one.is_suspect else "no"
            table.writerow([rank, one.path, one.split, one.label, one.suggested, *numbers, flag, "", ""])


def find_suspects(
    target: SuspectsTarget,
    labels: NDArray[Any],
    probabilities: Probabilities,
    is_judged: NDArray[np.bool_],
    class_names: list[str],
    paths: list[str],
    splits: list[str],
    separator: str = "|",
) -> Findings:
    """Rank images by the doubts about their labels.

    Args:
        labels: as in ``Shards``.
        separator: between the labels of an image that may have several.
    """
    rows = np.flatnonzero(is_judged)
    names = np.array(class_names, object)
    doubts, given, suggested = target.doubts(labels[rows], probabilities[rows], names, separator)
    ranked = [
        Finding(
            int(rows[row]),
            paths[rows[row]],
            splits[rows[row]],
            given[row],
            suggested[row],
            float(doubts.p_label[row]),
            float(doubts.p_suggested[row]),
            bool(doubts.is_suspect[row]),
        )
        for row in doubts.rank.tolist()
    ]
    return Findings(ranked, len(labels) - len(rows), doubts.estimate)


@dataclass(frozen=True)
class Correction:
    """A row of the table in which a new label was filled in, or that is to be excluded."""

    line: int
    path: str
    label: str
    new_label: str
    exclude: bool = False


def read_corrections(path: Path) -> Iterator[Correction]:
    """Yield the rows of an edited table that have a new label or are to be excluded.

    Raises:
        UserError: the file is missing, no such table, or damaged, or a row says neither yes nor no.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() != ".csv":
        raise UserError(f"{path}: not a CSV file; expected the table that `darkroom suspects` writes")
    names = ["path", "label", "new_label"]
    if "exclude" in column_names(f"{path}", content, set(names)):
        names.append("exclude")
    for line, (image, label, new_label, *exclude) in read_rows(
        f"{path}", content, {name: name for name in names}
    ):
        answer = "".join(exclude).strip()
        if answer.lower() not in YES + NO:
            raise UserError(
                f"{path}:{line}: exclude is {answer!r}; allowed are {listed(YES)}, or nothing"
            )
        row = Correction(line, image, label.strip(), new_label.strip(), answer.lower() in YES)
        if row.new_label or row.exclude:
            yield row


def check_target(table: Path, force: bool) -> None:
    """Check that no work of people would be lost.

    Raises:
        UserError: ``table`` exists, and was edited or is something else.
    """
    if force or not table.exists():
        return
    try:
        is_edited = any(True for _ in read_corrections(table))
    except UserError as error:
        raise UserError(f"{error}; it was to be replaced: name another folder with --out") from None
    if is_edited:
        raise UserError(
            f"{table}: has new labels or exclusions filled in, which would be lost; use them with"
            f" `darkroom relabel {table}`, name another folder with --out, or replace it with --force"
        )
