"""The rows of a table after they were read: kinds of columns, digests, and the values for the shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.collection.table_rows import TableFile
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage
from darkroom.errors import UserError
from darkroom.inputs import OUTPUTS, ColumnKind, Encoding, Input
from darkroom.preparation.measures import HASH_BYTES
from darkroom.preparation.segments import FACTS, SCHEMA
from darkroom.reporting.row_pictures import draw_rows
from darkroom.tabular.encoding import encode, fit_encoding
from darkroom.tabular.kinds import Column, settle_columns
from darkroom.tabular.leaks import row_digests
from darkroom.tabular.table import Table, read_table


@dataclass(frozen=True)
class EncodedRows:
    """The values of rows, with codes of the train split's categories."""

    encoding: Encoding
    values: NDArray[np.float64]
    """``(n, encoding.size)``: numbers, NaN if missing, then codes."""
    input: Input = "row"
    storage: Storage = "decoded"

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 1, self.encoding.size

    def stored(self, index: int) -> Any:
        return self.values[index]

    def facts_of(self, train: Shards) -> dict[str, Any]:
        """Return the encoding, which has the statistics."""
        return {
            "input_size": (1, 1),
            "channels": self.encoding.size,
            "resize": "stretch",
            "mean": [],
            "std": [],
            "encoding": self.encoding,
        }


@dataclass(frozen=True)
class ReadRows:
    """The rows that have a label, in the order of the collection."""

    table: Table
    columns: Sequence[Column]
    digests: list[bytes]
    """SHA-256 of the values of each row."""
    masks: None = None

    def __len__(self) -> int:
        return len(self.table)

    def facts(self, indices: NDArray[np.int64]) -> pa.Table:
        known: dict[str, Any] = {
            "outcome": ["used"] * len(indices),
            "reason": [""] * len(indices),
            "pixel_sha256": [self.digests[index] for index in indices.tolist()],
            "hash": [bytes(HASH_BYTES)] * len(indices),
        }
        unknown = [None] * len(indices)
        fields = [SCHEMA.field(name) for name in FACTS]
        return pa.table(
            {field.name: pa.array(known.get(field.name, unknown), field.type) for field in fields}
        )

    def content(self, is_train: NDArray[np.bool_]) -> EncodedRows:
        encoding = fit_encoding(self.table, self.columns, is_train)
        return EncodedRows(encoding, np.column_stack(encode(encoding, self.table)).astype(np.float64))

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pictures of rows, relative to all rows."""
        everything = self.content(np.ones(len(self), np.bool_))
        return draw_rows(everything.encoding, everything.values[indices])

    def remove_other_segments(self) -> None:
        """Do nothing: rows are in no cache."""


def read_labelled_rows(
    collection: Collection, file: TableFile, given: dict[str, ColumnKind]
) -> ReadRows:
    """Return the rows of a table that have a label.

    Args:
        given: ``data.columns``.

    Raises:
        UserError: a column fits no kind, or not the given one.
    """
    table = read_table(file.name, file.content, file.roles)
    entries = collection.table.select(["offset", "outcome"])
    is_read = np.array(entries["outcome"].is_null())
    rows = pa.array(entries["offset"].to_numpy()[is_read])
    taken = set(file.roles.values())
    if wrong := sorted(name for name in taken if name in given):
        raise UserError(f"data.columns: {wrong[0]!r} has another meaning already; remove it here")
    chosen = Table(
        table.name,
        {name: cells.take(rows) for name, cells in table.columns.items()},
        table.lines[rows.to_numpy()],
    )
    columns = settle_columns(chosen, given, taken)
    if wrong := [c.name for c in columns if c.kind != "ignored" and c.name in OUTPUTS]:
        raise UserError(
            f"{table.name}: the column {wrong[0]} has the name of an output of exported models; rename"
            " it, or set it to ignored in data.columns"
        )
    everything = fit_encoding(chosen, columns, np.ones(len(chosen), np.bool_))
    return ReadRows(chosen, columns, row_digests(*encode(everything, chosen)))
