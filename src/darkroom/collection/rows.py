"""Reads the rows of a table in CSV, Parquet or JSON Lines, with the values as they are stored."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkroom.errors import UserError, brief, counted, did_you_mean, listed

Rows = Iterator[tuple[int, list[Any]]]
"""The number of the line (in Parquet: the row) from 1, and the values of the wanted columns."""

_DELIMITERS = (",", ";", "\t")
_ROWS_PER_BATCH = 8192

MAX_ROWS = 20_000_000
"""Maximum for a Parquet file, which can hold billions of rows in a few kB."""

MAX_TABLE_BYTES = 2**31
"""Maximum size of a table, and of the uncompressed wanted columns of a Parquet file."""

MAX_CELL_BYTES = 2**16
"""Maximum size of a value in a Parquet file. Python's ``csv`` has a similar limit."""


def read_rows(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    """Read the rows of a file in the format of its suffix, one of ``READERS``.

    Values are not converted: ``007`` and ``NA`` in a CSV stay text. Blank lines, and blanks around the
    column names of a CSV, are ignored.

    Args:
        name: name of the file, for its suffix and for messages.
        columns: the name of each wanted column, by the parameter that sets it.

    Raises:
        UserError: the file is damaged, too large or not UTF-8, or a column or a field is missing.
    """
    return READERS[PurePosixPath(name).suffix.lower()](name, content, columns)


def _read_delimited(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    line = 1
    try:
        header, delimiter = _header(text.readline(), set(columns.values()))
        _check_columns(name, header, columns)
        positions = [header.index(column) for column in columns.values()]
        for row in (reader := csv.reader(text, delimiter=delimiter, strict=True)):
            line = 1 + reader.line_num
            if not "".join(row).strip():
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{name}: line {line} has {counted(len(row), 'field')}, the first line has"
                    f" {len(header)}; enclose text that contains {delimiter!r} in double quotes"
                )
            yield line, [row[position] for position in positions]
    except csv.Error as error:
        raise UserError(f"{name}: after line {line}: {brief(error)}") from None
    except UnicodeDecodeError:
        lines = enumerate(io.BytesIO(content), start=1)
        line = next(number for number, text in lines if not _is_utf8(text))
        raise UserError(f"{name}: line {line} is not UTF-8; save it as UTF-8") from None


def _header(line: str, wanted: set[str]) -> tuple[list[str], str]:
    """Return the names in the first line of a delimited file, and the delimiter."""
    headers = {d: next(csv.reader([line], delimiter=d), []) for d in _DELIMITERS}
    for names in headers.values():
        names[:] = [name if name in wanted else name.strip() for name in names]
    delimiter = max(headers, key=lambda d: (len(wanted & set(headers[d])), len(headers[d])))
    return headers[delimiter], delimiter


def column_names(name: str, content: bytes, wanted: set[str]) -> list[str]:
    """Return the names of all columns of a table that ``read_rows`` can read.

    Args:
        name: name of the file, for its suffix and for messages.
        wanted: names of columns that should be there, from which the separator is recognised.

    Raises:
        UserError: the file is damaged.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".parquet":
        try:
            return list(pq.ParquetFile(pa.BufferReader(content)).schema_arrow.names)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _no_parquet(name, error) from None
    if READERS[suffix] is _read_json_lines:
        return list(dict.fromkeys(key for _, row in _json_rows(name, content) for key in row))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{name} is not UTF-8; save it as UTF-8")
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "replace", newline="")
    try:
        return _header(text.readline(), wanted)[0]
    except csv.Error as error:
        raise UserError(f"{name}: line 1: {brief(error)}") from None


_MEANT = '; a table in JSON has one object per line, such as {"age": 31, "label": "yes"}'


def _read_json_lines(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    found: dict[str, None] = {}
    for number, row in _json_rows(name, content):
        found |= dict.fromkeys(row)
        yield number, [row.get(column) for column in columns.values()]
    if found:
        _check_columns(name, list(found), columns)


def _json_rows(name: str, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not empty, and its object."""
    for number, line in enumerate(io.BytesIO(content), start=1):
        if not _is_utf8(line):
            raise UserError(f"{name}: line {number} is not UTF-8; save it as UTF-8")
        text = line.decode("utf-8-sig").strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            meant = _MEANT if text.startswith("[") else ""
            raise UserError(f"{name}: line {number} is not JSON ({brief(error)}){meant}") from None
        if not isinstance(row, dict):
            raise UserError(f"{name}: line {number} is not a JSON object{_MEANT}")
        yield number, row


def _read_parquet(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    try:
        wanted = list(dict.fromkeys(columns.values()))
        file = pq.ParquetFile(pa.BufferReader(content))
        _check_columns(name, file.schema_arrow.names, columns)
        _check_size(name, file.metadata, wanted)
        # as dictionaries, so that a long value is not copied into every row that has it
        leaves = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=leaves)
        number = 0
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=wanted):
            for column in wanted:
                if _longest(batch.column(column)) > MAX_CELL_BYTES:
                    raise _huge_value(name, column)
            lists = [batch.column(column).to_pylist() for column in columns.values()]
            for values in zip(*lists, strict=True):
                number += 1
                yield number, list(values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _no_parquet(name, error) from None


def _no_parquet(name: str, error: Exception) -> UserError:
    return UserError(f"{name} is not a Parquet file, or is damaged ({brief(error)})")


def _check_size(name: str, metadata: pq.FileMetaData, wanted: list[str]) -> None:
    """Refuse a Parquet file that is small but would exceed the memory."""
    if metadata.num_rows > MAX_ROWS:
        raise UserError(f"{name}: {metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read")
    num_bytes = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.split(".")[0] not in wanted:
                continue
            num_bytes += column.total_uncompressed_size
            if column.total_uncompressed_size > MAX_CELL_BYTES * (group.num_rows + 1):
                raise _huge_value(name, column.path_in_schema.split(".")[0])
    if num_bytes > MAX_TABLE_BYTES:
        raise UserError(
            f"{name}: {num_bytes:,} bytes uncompressed; at most {MAX_TABLE_BYTES:,} are read"
        )


def _longest(values: pa.Array) -> int:
    """Return the size in bytes of the longest text in an array, or in its lists."""
    if pa.types.is_dictionary(values.type):
        return _longest(values.dictionary)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return _longest(values.flatten())
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        return pc.max(pc.binary_length(values)).as_py() or 0
    return 0


def _huge_value(name: str, column: str) -> UserError:
    return UserError(
        f"{name}: the column {listed([column])} has a value of more than {MAX_CELL_BYTES:,} bytes;"
        " shorten it, or name another column"
    )


READERS: dict[str, Callable[[str, bytes, dict[str, str]], Rows]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".txt": _read_delimited,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}


_SEPARATORS = "; columns are separated by commas, semicolons or tabs"


def _is_joined(column: str, found: list[str]) -> bool:
    """Return whether a single name holds a wanted one among others, so that the separator is another."""
    return len(found) == 1 and column in re.split(r"[^\w.-]+", found[0])


def _check_columns(name: str, found: list[str], columns: dict[str, str]) -> None:
    for parameter, column in columns.items():
        if column not in found:
            there = f"among {listed(found)}" if any(found) else "because its first line is empty"
            raise UserError(
                f"{parameter}: {name} has no column {listed([column])} {there}"
                + (_SEPARATORS if _is_joined(column, found) else did_you_mean(column, found))
            )
        if found.count(column) > 1:
            raise UserError(
                f"{parameter}: {name} has {found.count(column)} columns {listed([column])}; rename one"
            )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
