"""Tables of predictions in Parquet."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.parallel import chunked
from darkroom.prediction.columns import Column

ROWS_PER_GROUP, CELLS_PER_GROUP = 2**14, 2**18
"""Maximum numbers of rows and of cells in a row group, of which one is held in memory."""

_TYPES = {"text": pa.string(), "number": pa.float64(), "flag": pa.bool_()}


def write_parquet(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Write rows as Parquet; the same rows give the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
    num_rows = max(min(ROWS_PER_GROUP, CELLS_PER_GROUP // len(columns)), 1)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in chunked(rows, num_rows):
            cells = zip(*group, strict=True)
            arrays = [_array(column, some) for column, some in zip(columns, cells, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def column_names(file: BinaryIO) -> list[str]:
    """Return the names of the columns of a file; none if it is not Parquet."""
    try:
        return list(pq.read_schema(file).names)
    except (OSError, pa.ArrowException):
        return []


def _array(column: Column, cells: Sequence[str]) -> pa.Array:
    values: Iterable[object] = cells
    if column.kind == "number":
        values = map(float, cells)
    elif column.kind == "flag":
        values = (cell == "true" for cell in cells)
    return pa.array(values, _TYPES[column.kind])
