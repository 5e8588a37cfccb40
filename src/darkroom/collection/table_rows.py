"""Reads the labels of the rows of a table (``data.table``), each of which is an entry."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from darkroom.collection.cells import cell_label, cell_split, cell_text, cell_weight
from darkroom.collection.entries import Entry, Files
from darkroom.collection.manifest import content_of
from darkroom.collection.own_columns import OwnColumns, in_messages
from darkroom.collection.rows import read_rows
from darkroom.config.data import DataSource
from darkroom.errors import UserError

PARAMETER = "data.table"


@dataclass(frozen=True)
class TableFile:
    """A table whose rows are the inputs of a model."""

    name: str
    """Its path below the collection."""
    content: bytes
    roles: dict[str, str]
    """The columns that are not to be predicted from, by the parameter that names them."""


def find_table(files: Files, there: pa.Table, source: DataSource) -> TableFile | None:
    """Return the table that ``source`` names; None if it names none.

    Args:
        there: the entries of ``files``.

    Raises:
        UserError: the table is missing, too large or unreadable, or has another suffix.
    """
    if source.table is None:
        return None
    content = content_of(files, source.table, there, PARAMETER)
    roles = {
        f"data.{role}_column": column
        for role in ("label", "split", "group", "weight")
        if (column := getattr(source, f"{role}_column")) is not None
    }
    return TableFile(posixpath.normpath(source.table), content, roles)


def label_rows(table: TableFile, rename: Callable[[str], str], own: OwnColumns) -> Iterator[Entry]:
    """Yield an entry for each row of a table.

    Its ``path`` is the file and the line, and its ``offset`` is the number of the row, from 0. A row
    without a label is ``unlisted``.

    Args:
        rename: returns the class of a label.
        own: chooses the columns by which ``evaluate`` makes slices.

    Raises:
        UserError: the table is damaged, lacks a column or has no rows; or a row has an unknown split, a
            weight that is not positive, or a label that is not text.
    """
    own.choose(table.name, table.content, table.roles)
    names = [parameter.removeprefix("data.").removesuffix("_column") for parameter in table.roles]
    number = -1
    rows = read_rows(table.name, table.content, table.roles | in_messages(own.names))
    for number, (line, values) in enumerate(rows):
        try:
            cells = dict(zip(names, values, strict=False))
            yield _entry(f"{table.name}:{line}", number, cells, rename, own.pack(values[len(names) :]))
        except ValueError as error:
            raise UserError(f"{table.name}: line {line} {error}") from None
    if number < 0:
        raise UserError(f"{table.name}: has no rows")


def _entry(
    path: str, number: int, cells: dict[str, Any], rename: Callable[[str], str], own_values: str | None
) -> Entry:
    texts = {role: cell_text(value, role) for role, value in cells.items()}
    label = cell_label(texts["label"], rename)
    return Entry(
        path,
        label or None,
        cell_split(texts.get("split", "")),
        texts.get("group", "").strip() or None,
        cell_weight(texts.get("weight", "").strip()),
        own_values,
        outcome=None if label else "unlisted",
        reason="" if label else "no label",
        offset=number,
    )
