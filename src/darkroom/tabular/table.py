"""A table of rows to classify: all cells as text, with missing cells and the numbers of lines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.collection.names import is_blank
from darkroom.collection.rows import READERS, column_names, read_rows
from darkroom.errors import UserError, counted, listed

MAX_COLUMNS = 2_000
MAX_NAME = 100
"""Maximum number of characters in the name of a column."""

_ROWS_PER_CHUNK = 8_192


@dataclass(frozen=True)
class Table:
    """The cells of a file."""

    name: str
    """The file, for messages."""
    columns: dict[str, pa.StringArray]
    """For each column one text per row, without surrounding blanks; null: the cell is missing."""
    lines: NDArray[np.int64]
    """int64 ``(num_rows,)``: the line of each row (in Parquet: its number), from 1."""

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """Return the file and the line of a row; it is the name of the row in messages and tables."""
        return f"{self.name}:{self.lines[row]}"


def read_table(name: str, content: bytes, roles: Mapping[str, str]) -> Table:
    """Read all columns of a table in CSV, Parquet or JSON Lines, as its suffix says.

    Every cell becomes text as ``data.manifest`` reads it: ``007`` stays ``007``, true is ``true``, and a
    date is in ISO 8601. Empty cells, null and NaN are missing.

    Args:
        name: name of the file, for its suffix and for messages.
        roles: columns that must exist, such as that of the label, by the parameter that names them.

    Raises:
        UserError: the file is damaged, has no rows, lacks a column of ``roles``, or has columns with
            unsuitable names or cells that are neither text nor numbers.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in READERS:
        raise UserError(f"{name}: tables have the suffix {listed(READERS)}")
    found = column_names(name, content, set(roles.values()))
    _check_names(name, found)
    # the roles come first, so that a missing one is reported with its parameter
    wanted = {**roles, **{f"the column {listed([column])}": column for column in found}}
    order = {column: position for position, column in enumerate(wanted.values())}
    chunks: dict[str, list[pa.Array]] = {column: [] for column in found}
    cells: dict[str, list[str | None]] = {column: [] for column in found}
    lines: list[int] = []

    def close_chunk() -> None:
        for column in found:
            chunks[column].append(pa.array(cells[column], pa.string()))
            cells[column].clear()

    for line, values in read_rows(name, content, wanted):
        for column in found:
            try:
                cells[column].append(_as_text(values[order[column]]))
            except ValueError as error:
                raise UserError(
                    f"{name}: line {line}: the column {listed([column])} has {error}; save it as text or"
                    " numbers, or remove the column"
                ) from None
        lines.append(line)
        if len(lines) % _ROWS_PER_CHUNK == 0:
            close_chunk()
    close_chunk()
    if not lines:
        raise UserError(f"{name}: has no rows")
    columns = {column: pa.concat_arrays(parts) for column, parts in chunks.items()}
    return Table(name, columns, np.array(lines, np.int64))


def _check_names(name: str, found: list[str]) -> None:
    if not found:
        raise UserError(f"{name}: has no columns")
    if len(found) > MAX_COLUMNS:
        raise UserError(f"{name}: {counted(len(found), 'column')}; at most {MAX_COLUMNS:,} are read")
    for position, column in enumerate(found, start=1):
        if is_blank(column):
            raise UserError(f"{name}: column {position} has no name; name it in the first line")
        if len(column) > MAX_NAME or not column.isprintable():
            raise UserError(
                f"{name}: column {position} has the name {column[:MAX_NAME]!r}; allowed are up to"
                f" {MAX_NAME} characters that can be shown"
            )


def _as_text(value: Any) -> str | None:
    """Return a cell as text, or None if it is missing; raise ValueError if it is not one value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        raise ValueError("bytes")
    if isinstance(value, list | tuple | dict):
        raise ValueError("a list or an object")
    return f"{value}".encode("utf-8", "replace").decode().strip() or None
