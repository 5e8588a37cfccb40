"""From the cells of a table to the numbers that a model takes, by statistics of the train split."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.inputs import Category, ColumnKind, Encoding, Number
from darkroom.tabular.kinds import Column
from darkroom.tabular.table import Table
from darkroom.tabular.values import as_booleans, as_numbers, date_parts

UNKNOWN = 0
"""Code of a category that the train split lacks. A missing cell is a category like any other."""


def encode(encoding: Encoding, table: Table) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers and codes of all rows.

    Numbers are raw, so that a model contains its own preprocessing: it replaces missing ones by the
    median and standardises them.

    Args:
        table: has the columns of ``encoding``, with cells of their kinds.

    Returns:
        float64 ``(num_rows, len(numbers))``, NaN if missing; int64 ``(num_rows, len(categories))``,
        1 and above for ``values``, and ``UNKNOWN`` for others.
    """
    columns = [Column(name, kind) for name, kind in encoding.columns.items()]
    found = dict(_numbers(table, columns))
    numbers = [found[number.name] for number in encoding.numbers]
    texts = dict(_categories(table, columns))
    codes = [_codes(texts[category.name], category.values) for category in encoding.categories]
    return (
        np.column_stack([np.empty((len(table), 0)), *numbers]),
        np.column_stack([np.empty((len(table), 0), np.int64), *codes]),
    )


def named_values(encoding: Encoding, table: Table) -> dict[str, NDArray[Any]]:
    """Return the values of all rows by the names of ``encoding``, as exported models take them.

    Args:
        table: as for ``encode``.

    Returns:
        numbers, float64 ``(num_rows,)``, NaN if missing; and categories, text ``(num_rows,)``, empty if
        missing.
    """
    columns = [Column(name, kind) for name, kind in encoding.columns.items()]
    values: dict[str, NDArray[Any]] = dict(_numbers(table, columns))
    texts = {name: np.array(cells.to_pylist(), object) for name, cells in _categories(table, columns)}
    return {name: (values | texts)[name] for name in encoding.names}


def fit_encoding(table: Table, columns: Sequence[Column], is_train: NDArray[np.bool_]) -> Encoding:
    """Return the encoding whose medians, means and categories are those of the train split.

    Parts of dates that are the same in all its rows, for example the hour of dates
    without a time, are excluded.

    Args:
        is_train: bool ``(num_rows,)``, at least one of them true.
    """
    used: dict[str, ColumnKind] = {c.name: c.kind for c in columns if c.kind != "ignored"}
    numbers = [
        fit_number(name, values[is_train])
        for name, values in _numbers(table, columns)
        if name in table.columns or not is_constant_part(name, values[is_train], used)
    ]
    categories = tuple(
        Category(
            name=name, values=tuple(sorted(pc.unique(texts.filter(pa.array(is_train))).to_pylist()))
        )
        for name, texts in _categories(table, columns)
    )
    return Encoding(columns=used, numbers=tuple(numbers), categories=categories)


def fit_number(name: str, values: NDArray[np.float64]) -> Number:
    """Return a number with the statistics of its values, float64 ``(n,)``, NaN if missing."""
    is_missing = np.isnan(values)
    median = 0.0 if is_missing.all() else float(np.median(values[~is_missing]))
    filled = np.where(is_missing, median, values)
    return Number(name=name, median=median, mean=float(filled.mean()), std=float(filled.std()) or 1.0)


def is_constant_part(name: str, values: NDArray[np.float64], columns: Mapping[str, ColumnKind]) -> bool:
    """Return whether a number is a part of a date, and the same wherever it is known.

    Args:
        values: float64 ``(n,)``, NaN if missing.
        columns: kinds of columns, as in ``Encoding``.
    """
    is_part = name not in columns and columns.get(name.rpartition(".")[0]) == "date"
    return is_part and len(np.unique(values[~np.isnan(values)])) < 2


def _numbers(table: Table, columns: Sequence[Column]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the name and the values of every number of a table."""
    for column in columns:
        cells = table.columns[column.name]
        if column.kind == "number":
            yield column.name, as_numbers(cells)
        elif column.kind == "date":
            for part, values in date_parts(cells).items():
                yield f"{column.name}.{part}", values


def _categories(table: Table, columns: Sequence[Column]) -> Iterator[tuple[str, pa.StringArray]]:
    """Yield the name and the texts of every category of a table; empty text for missing ones."""
    for column in columns:
        cells = table.columns[column.name]
        if column.kind in ("category", "boolean"):
            yield (
                column.name,
                pc.fill_null(as_booleans(cells) if column.kind == "boolean" else cells, ""),
            )


def _codes(texts: pa.StringArray, values: Sequence[str]) -> NDArray[np.int64]:
    positions = pc.index_in(texts, pa.array(values, pa.string()))
    return pc.fill_null(pc.add(pc.cast(positions, pa.int64()), 1), UNKNOWN).to_numpy()
