"""What the columns of a table hold: inferred from all cells, or as given; refused if neither is sure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.names import look_alike_key
from darkroom.errors import UserError, counted, did_you_mean, listed
from darkroom.inputs import ColumnKind
from darkroom.tabular.table import Table
from darkroom.tabular.values import (
    FIRST_YEAR,
    INFINITE,
    LAST_YEAR,
    as_numbers,
    is_boolean,
    is_date,
    is_number,
    matches,
    without_missing_words,
)

PARAMETER = "data.columns"
MAX_CATEGORIES = 1_000
MAX_CHARACTERS = 100
"""Maximum length of a category."""
ALMOST = 0.9
"""A column of which at least this fraction is numbers or dates is meant to hold nothing else."""

_UNITS = r"^([$€£¥] ?)?[+-]?([0-9]+|[0-9]{1,3}([, ][0-9]{3})+)(\.[0-9]+)?( ?[%$€£¥])?$"
_COMMA = r"^[+-]?[0-9]+,[0-9]+$"
_OTHER_DATE = r"^[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2,4}$"
_ZONE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+ ?(Z|[+-][0-9]{2}:?[0-9]{2})$"


@dataclass(frozen=True)
class Column:
    """What one column holds."""

    name: str
    kind: ColumnKind
    reason: str = ""
    """Why it is ignored, if darkroom decided so."""


def settle_columns(table: Table, given: Mapping[str, ColumnKind], roles: Iterable[str]) -> list[Column]:
    """Return what each column holds from which the label is to be predicted.

    Args:
        given: kinds of columns (``data.columns``); those of the others are inferred.
        roles: columns with another meaning, such as that of the label.

    Raises:
        UserError: a column fits no kind, or not the given one. The message names all such columns.
    """
    taken = set(roles)
    features = [name for name in table.columns if name not in taken]
    _check_given(given, features, taken, table)
    columns, problems = [], []
    for name in features:
        cells, kind = table.columns[name], given.get(name)
        try:
            if kind is None:
                columns.append(_infer(name, cells))
            else:
                _CHECKS[kind](cells)
                columns.append(Column(name, kind))
        except _UnfitError as error:
            at = "" if error.row is None else f" (line {table.lines[error.row]})"
            problems.append(f"{listed([name])}{at}: {error}")
    if problems:
        raise UserError(
            f"{table.name}: columns that cannot be used as they are: {len(problems):,}; correct them, or"
            f" set their kind in {PARAMETER} ({', '.join(get_args(ColumnKind))}):\n  "
            + "\n  ".join(problems)
        )
    if not [column for column in columns if column.kind != "ignored"]:
        raise UserError(f"{table.name}: no column is left to predict from; see {PARAMETER}")
    return columns


class _UnfitError(Exception):
    """A column that fits no kind, or not the given one; ``row`` is an example."""

    def __init__(self, problem: str, row: int | None = None) -> None:
        super().__init__(problem)
        self.row = row


def _check_given(
    given: Mapping[str, ColumnKind], features: list[str], taken: set[str], table: Table
) -> None:
    for name, kind in given.items():
        if name in taken:
            raise UserError(f"{PARAMETER}: {listed([name])} has another meaning already; remove it here")
        if name not in features:
            raise UserError(
                f"{PARAMETER}: {table.name} has no column {listed([name])} among {listed(features, 50)}"
                + did_you_mean(name, features)
            )
        if kind not in _CHECKS:
            raise UserError(
                f"{PARAMETER}: {listed([name])}: {kind!r} is not a kind of column; allowed are"
                f" {listed(_CHECKS)}{did_you_mean(kind, _CHECKS)}"
            )


def _infer(name: str, cells: pa.StringArray) -> Column:
    """Return what a column holds; raise _UnfitError if that is not certain."""
    known = without_missing_words(cells)
    num_known = len(cells) - known.null_count
    if not num_known:
        return Column(name, "ignored", "it has no values")
    if pc.count_distinct(known).as_py() == 1 and known.null_count == 0:
        return Column(name, "ignored", "it has one value")
    if is_boolean(known).sum() == num_known:
        return Column(name, "boolean")
    forms: dict[ColumnKind, Callable[[pa.StringArray], NDArray[np.bool_]]]
    forms = {"number": is_number, "date": is_date}
    for kind, holds in forms.items():
        share = holds(known).sum() / num_known
        if share >= ALMOST:
            _CHECKS[kind](cells)
            if kind == "number":
                _refuse_ids(known)
            return Column(name, kind)
    _refuse_other_forms(known, num_known)
    _check_category(cells)
    _refuse_free_text(cells)
    _refuse_look_alikes(cells)
    return Column(name, "category")


def _first(is_wrong: NDArray[np.bool_]) -> int | None:
    rows = np.flatnonzero(is_wrong)
    return int(rows[0]) if len(rows) else None


def _require(
    cells: pa.StringArray, holds: Callable[[pa.StringArray], NDArray[np.bool_]], what: str
) -> pa.StringArray:
    """Return the cells that are not missing as they are, after checking each of them."""
    known = without_missing_words(cells)
    is_known = pc.is_valid(known).to_numpy(zero_copy_only=False)
    if not is_known.any():
        raise _UnfitError("it has no values")
    row = _first(is_known & ~holds(known))
    if row is not None:
        raise _UnfitError(f"{known[row].as_py()[:MAX_CHARACTERS]!r} is not {what}", row)
    return known


def _check_number(cells: pa.StringArray) -> None:
    known = _require(cells, is_number, "a number")
    row = _first(np.isinf(as_numbers(known)))
    if row is not None:
        raise _UnfitError(f"{known[row].as_py()!r} is infinite", row)


def _check_boolean(cells: pa.StringArray) -> None:
    _require(cells, is_boolean, "true or false")


def _check_date(cells: pa.StringArray) -> None:
    known = _require(cells, is_date, "a date such as 2026-11-29 or 2026-11-29 10:30")
    years = pc.fill_null(pc.year(pc.cast(known, pa.timestamp("us"))), FIRST_YEAR).to_numpy()
    row = _first((years < FIRST_YEAR) | (years > LAST_YEAR))
    if row is not None:
        raise _UnfitError(
            f"{known[row].as_py()!r} is not between {FIRST_YEAR} and {LAST_YEAR}; leave the cell"
            " empty if it stands for an unknown date",
            row,
        )


def _check_category(cells: pa.StringArray) -> None:
    if cells.null_count == len(cells):
        raise _UnfitError("it has no values")
    row = _first(pc.fill_null(pc.utf8_length(cells), 0).to_numpy() > MAX_CHARACTERS)
    if row is not None:
        raise _UnfitError(f"a category has at most {MAX_CHARACTERS} characters", row)
    num_different = pc.count_distinct(cells).as_py()
    if num_different > MAX_CATEGORIES:
        raise _UnfitError(f"{num_different:,} categories; at most {MAX_CATEGORIES:,} are allowed")


def _accept(cells: pa.StringArray) -> None:
    """Accept every cell of an ignored column."""


def misfits(cells: pa.StringArray, kind: ColumnKind) -> NDArray[np.bool_]:
    """Return which cells are neither missing nor of a kind; every text can be a category."""
    known = without_missing_words(cells)
    is_known = pc.is_valid(known).to_numpy(zero_copy_only=False)
    forms = {"number": _is_finite, "date": is_date, "boolean": is_boolean}
    return is_known & ~forms[kind](known) if kind in forms else np.zeros(len(cells), np.bool_)


def _is_finite(cells: pa.StringArray) -> NDArray[np.bool_]:
    return is_number(cells) & ~matches(cells, INFINITE)


_CHECKS: dict[str, Callable[[pa.StringArray], None]] = {
    "number": _check_number,
    "category": _check_category,
    "boolean": _check_boolean,
    "date": _check_date,
    "ignored": _accept,
}


def _refuse_ids(known: pa.StringArray) -> None:
    """Refuse whole numbers that count the rows, or that are too long for exact arithmetic."""
    numbers = as_numbers(known)
    numbers = numbers[~np.isnan(numbers)]
    if not (numbers == np.floor(numbers)).all():
        return
    if np.abs(numbers).max() > 2**53:
        raise _UnfitError("whole numbers above 2**53 are probably ids; set it to ignored")
    different = np.unique(numbers)
    if len(different) == len(numbers) > 2 and (np.diff(different) == 1).all():
        raise _UnfitError(
            "its numbers count the rows, like an id, and tell their order in the file; set it to"
            " ignored, or to number if they mean something"
        )


def _refuse_other_forms(known: pa.StringArray, num_known: int) -> None:
    """Refuse numbers and dates in a form that could be misread."""
    for pattern, problem in (
        (_COMMA, "is a number with a comma; write a point for decimals, and no thousands separator"),
        (_OTHER_DATE, "could be day or month first; write dates as 2026-11-29"),
        (_ZONE, "has a time zone; convert all to one zone, and write 2026-11-29 10:30"),
        (_UNITS, "is a number with a sign or separators; write the bare number"),
    ):
        is_like = matches(known, pattern) & ~matches(known, "^[0-9]*$")
        if is_like.sum() >= ALMOST * num_known:
            row = _first(is_like)
            assert row is not None
            raise _UnfitError(f"{known[row].as_py()!r} {problem}", row)


def _refuse_free_text(cells: pa.StringArray) -> None:
    num_known, num_different = len(cells) - cells.null_count, pc.count_distinct(cells).as_py()
    if num_known > 2 and num_different > num_known / 2:
        raise _UnfitError(
            f"{num_different:,} different texts in {counted(num_known, 'row')}, like an id, a name or a"
            " note; set it to ignored"
        )


def _refuse_look_alikes(cells: pa.StringArray) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    for category in sorted(filter(None, pc.unique(cells).to_pylist())):
        alike[look_alike_key(category)].append(category)
    for names in alike.values():
        if len(names) > 1:
            raise _UnfitError(f"{' and '.join(map(repr, names))} look alike; make them one category")
