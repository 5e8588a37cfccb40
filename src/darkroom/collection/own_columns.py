"""Further columns of a manifest, such as a camera or a site, which ``evaluate`` makes slices of."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from darkroom.collection.names import is_blank
from darkroom.collection.rows import column_names, read_rows
from darkroom.errors import UserError, counted, listed

MAX_COLUMNS = 20
"""Maximum number of columns that are kept."""
MAX_EXAMINED = 50
"""Maximum number of columns that are examined if none are named."""
MAX_CHARACTERS = 100
"""Maximum length of a value, and of the name of a column."""
MAX_DIFFERENT = 10_000
"""Maximum number of different texts in a column."""
MAX_NAMED = 10
"""Maximum number of columns that a remark names per reason."""

PARAMETER = "data.slice_columns"

Wanted = Literal["auto"] | Sequence[str]

_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,14})")


class OwnColumns:
    """The further columns of a manifest that are kept, and why others are not.

    Numbers are decimal, without leading zeros, so that ``007`` stays text. Not kept are long text,
    lists, columns with one value, text that is another in nearly each row, such as notes, and whole
    numbers that are another in each row, such as ids.

    Args:
        wanted: names of columns; ``auto``: all that can be kept, up to ``MAX_COLUMNS``.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._kept: dict[str, _Column] = {}
        self._excluded: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """The columns that are kept, in the order of the manifest."""
        return list(self._kept)

    @property
    def remarks(self) -> list[str]:
        """One remark that names the columns that are not kept, and the reasons; or none."""
        if not self._excluded:
            return []
        by_reason: dict[str, list[str]] = {}
        for name, why in self._excluded.items():
            by_reason.setdefault(why, []).append(name)
        shown = "; ".join(f"{listed(names, MAX_NAMED)}: {why}" for why, names in by_reason.items())
        return [f"Columns that do not become slices ({PARAMETER}): {shown}."]

    def choose(self, name: str, content: bytes, roles: Mapping[str, str]) -> None:
        """Choose the columns of a manifest.

        Args:
            name: name of the file, for its suffix and for messages.
            roles: columns with a meaning, such as that of the label, by the parameter that names them.

        Raises:
            UserError: the file is damaged, or a wanted column is missing.
        """
        if not self.wanted:
            return
        found = column_names(name, content, set(roles.values()))
        columns = {column: _Column() for column in self._candidates(found, set(roles.values()))}
        if PurePosixPath(name).suffix.lower() != ".parquet":
            _examine(name, content, columns, roles)
        else:  # column by column: one that is too large for `read_rows` need not be read at all
            for column, seen in columns.items():
                try:
                    _examine(name, content, {column: seen}, {})
                except UserError:
                    seen.problem = "not readable"
        for column, seen in columns.items():
            if problem := seen.settle():
                self._excluded[column] = problem
            elif len(self._kept) == MAX_COLUMNS:
                self._excluded[column] = f"at most {MAX_COLUMNS} columns become slices"
            else:
                self._kept[column] = seen

    def _candidates(self, found: list[str], taken: set[str]) -> list[str]:
        """Return the columns to examine; raise UserError if a wanted one is missing."""
        if self.wanted != "auto":
            if missing := [column for column in self.wanted if column not in found]:
                raise UserError(
                    f"{PARAMETER}: the manifest has no column {listed(missing[:1])} among"
                    f" {listed(found, MAX_EXAMINED)}"
                )
            found = [column for column in found if column in self.wanted]
        counts = Counter(found)
        candidates: list[str] = []
        for column in dict.fromkeys(found):
            if column in taken:
                continue
            if problem := _problem_of_name(column, counts[column]):
                self._excluded[column[:MAX_CHARACTERS]] = problem
            elif len(candidates) == MAX_EXAMINED:
                self._excluded[column] = f"only {counted(MAX_EXAMINED, 'column')} are examined"
            else:
                candidates.append(column)
        return candidates

    def pack(self, values: Iterable[Any]) -> str | None:
        """Return a row's values of the kept columns as a JSON object, or None if all are empty."""
        known = {}
        for (name, column), value in zip(self._kept.items(), values, strict=True):
            if text := _as_text(value):
                known[name] = column.convert(text)
        return _packed(known)


def common_values(rows: Iterable[str | None]) -> str | None:
    """Return, in the form of ``pack``, the values in which all rows of an image agree."""
    unpacked = [json.loads(row) if row else {} for row in rows]
    first, others = unpacked[0], unpacked[1:]
    common = {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
    return _packed(common)


def _packed(values: Mapping[str, Any]) -> str | None:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")) if values else None


def in_messages(columns: Iterable[str]) -> dict[str, str]:
    """Return the columns to read, by what messages call them."""
    return {f"{PARAMETER}: {column}": column for column in columns}


def _examine(
    name: str, content: bytes, columns: Mapping[str, "_Column"], roles: Mapping[str, str]
) -> None:
    """Note all values of columns; ``roles`` are read as well, since the separator is found by them."""
    if not columns:
        return
    for _, values in read_rows(name, content, {**roles, **in_messages(columns)}):
        for seen, value in zip(columns.values(), values[len(roles) :], strict=True):
            seen.add(value)


class _Column:
    """What is known about the values of a column."""

    def __init__(self) -> None:
        self.problem = ""
        self._values: set[str] = set()
        self._num_counted = 0
        self._is_number = self._is_whole = True

    def add(self, value: Any) -> None:
        """Note the next value, as it is stored."""
        if self.problem:
            return
        try:
            text = _as_text(value)
        except ValueError as error:
            self.problem, self._values = f"{error}", set()
            return
        if not text:
            return
        self._is_number = self._is_number and _is_number(text)
        self._is_whole = self._is_whole and _WHOLE.fullmatch(text) is not None
        if len(self._values) < MAX_DIFFERENT:
            self._values.add(text)
            self._num_counted += 1

    def settle(self) -> str:
        """Return why the column is not kept; empty if it is."""
        num_different, num_rows, self._values = len(self._values), self._num_counted, set()
        if self.problem:
            return self.problem
        if num_different < 2:
            return "only one value" if num_different else "no values"
        if not self._is_number:
            if num_different == MAX_DIFFERENT or num_different > num_rows / 2:
                return "a different value in nearly every row"
        elif self._is_whole and num_different == num_rows:
            return "a different number in every row"
        return ""

    def convert(self, text: str) -> str | int | float:
        """Return a value as a number if the whole column has numbers."""
        return text if not self._is_number else int(text) if self._is_whole else float(text)


def _as_text(value: Any) -> str:
    """Return a value as text, empty if it is unknown; raise ValueError if that is impossible."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | list | dict | tuple):
        raise ValueError("values that are not text, numbers, true or false")
    text = f"{value}".strip().encode("utf-8", "replace").decode()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"values of more than {MAX_CHARACTERS} characters")
    return text


def _is_number(text: str) -> bool:
    if not any(letter.isdigit() for letter in text) or not _NUMBER.fullmatch(text):
        return False
    return math.isfinite(float(text))


def _problem_of_name(name: str, count: int) -> str:
    if count > 1:
        return "several columns have this name"
    if is_blank(name):
        return "a blank name"
    if len(name) > MAX_CHARACTERS:
        return f"a name of more than {MAX_CHARACTERS} characters"
    return "" if name.isprintable() else "a name with characters that cannot be shown"
