"""The rows of a table in a file: CSV, Parquet or JSON Lines, with values as they are stored."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.errors import UserError, brief, did_you_mean, listed

Rows = Iterator[tuple[int, list[Any]]]
"""Number of the line (in Parquet: of the row), from 1, and the values of the wanted columns."""

_DELIMITERS = (",", ";", "\t")
_ROWS_PER_BATCH = 8192

MAX_ROWS = 20_000_000
"""Of a Parquet file, which can hold billions in a few kB."""

MAX_TABLE_BYTES = 2**32
"""Of a Parquet file's wanted columns when they are unpacked."""


def read_rows(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    """Reads a file whose kind is told by its suffix, one of ``READERS``.

    Nothing is converted: ``007`` and ``NA`` in a CSV stay text. Blank lines are no rows, and blanks
    around a CSV's column names do not count.

    Args:
        name: of the file, for its suffix and for messages.
        columns: parameter that names a column -> name of the column.

    Raises:
        UserError: the file is damaged, or not UTF-8, or a column or a field of a row is missing.
    """
    return READERS[PurePosixPath(name).suffix.lower()](name, content, columns)


def _read_delimited(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    line = 1
    try:
        first = text.readline()
        headers = {d: next(csv.reader([first], delimiter=d), []) for d in _DELIMITERS}
        wanted = set(columns.values())
        for names in headers.values():
            names[:] = [name if name in wanted else name.strip() for name in names]
        delimiter = max(headers, key=lambda d: (len(wanted & set(headers[d])), len(headers[d])))
        header = headers[delimiter]
        _check_columns(name, header, columns)
        positions = [header.index(column) for column in columns.values()]
        for row in (reader := csv.reader(text, delimiter=delimiter, strict=True)):
            line = 1 + reader.line_num
            if not "".join(row).strip():
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{name}: line {line} has {len(row)} fields, the first line has {len(header)}; "
                    f"put text with {delimiter!r} into double quotes"
                )
            yield line, [row[position] for position in positions]
    except csv.Error as error:
        raise UserError(f"{name}: after line {line}: {brief(error)}") from None
    except UnicodeDecodeError:
        lines = enumerate(io.BytesIO(content), start=1)
        line = next(number for number, text in lines if not _is_utf8(text))
        raise UserError(f"{name}: line {line} is not UTF-8; save it as UTF-8") from None


def _read_json_lines(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    found: dict[str, None] = {}
    for number, line in enumerate(io.BytesIO(content), start=1):
        if not _is_utf8(line):
            raise UserError(f"{name}: line {number} is not UTF-8; save it as UTF-8")
        text = line.decode("utf-8-sig").strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}: line {number} is no JSON ({brief(error)})") from None
        if not isinstance(row, dict):
            raise UserError(f"{name}: line {number} is no JSON object")
        found |= dict.fromkeys(row)
        yield number, [row.get(column) for column in columns.values()]
    if found:
        _check_columns(name, list(found), columns)


def _read_parquet(name: str, content: bytes, columns: dict[str, str]) -> Rows:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        _check_columns(name, file.schema_arrow.names, columns)
        wanted = list(dict.fromkeys(columns.values()))
        _check_size(name, file.metadata, wanted)
        number = 0
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=wanted):
            lists = [batch.column(column).to_pylist() for column in columns.values()]
            for values in zip(*lists, strict=True):
                number += 1
                yield number, list(values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} is no Parquet file, or damaged ({brief(error)})") from None


def _check_size(name: str, metadata: pq.FileMetaData, wanted: list[str]) -> None:
    """Refuses a Parquet file that is small and holds more than memory does."""
    if metadata.num_rows > MAX_ROWS:
        raise UserError(f"{name}: {metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    num_bytes = sum(
        column.total_uncompressed_size
        for column in columns
        if column.path_in_schema.split(".")[0] in wanted
    )
    if num_bytes > MAX_TABLE_BYTES:
        raise UserError(f"{name}: {num_bytes:,} bytes unpacked; at most {MAX_TABLE_BYTES:,} are read")


READERS: dict[str, Callable[[str, bytes, dict[str, str]], Rows]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".txt": _read_delimited,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}


def _check_columns(name: str, found: list[str], columns: dict[str, str]) -> None:
    for parameter, column in columns.items():
        if column not in found:
            raise UserError(
                f"{parameter}: {name} has no column {listed([column])} among {listed(found)}"
                + did_you_mean(column, found)
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
