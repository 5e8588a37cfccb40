"""The entries of a collection as an Arrow table, in memory or in a memory-mapped file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.entries import Entry, MaskFile
from darkroom.collection.grouping import GroupPattern
from darkroom.parallel import chunked
from darkroom.whole_files import whole_file

BATCH = 8_192
"""Maximum number of rows that are unpacked at once."""

MASK_FILE = pa.struct(
    [("path", pa.string()), ("value", pa.int64()), ("offset", pa.int64()), ("size", pa.int64())]
)
"""The fields of ``MaskFile``."""

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("weight", pa.float64()),
        ("own_values", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("mask_files", pa.list_(MASK_FILE)),
    ]
)
"""The fields of ``Entry``."""


def tabulate(entries: Iterable[Entry], pattern: GroupPattern | None = None) -> pa.Table:
    """Return entries as a table in memory, in about 150 bytes per entry."""
    batches = []
    for batch in chunked(entries, BATCH):
        columns = {name: [getattr(entry, name) for entry in batch] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA)
        if pattern is not None:
            groups = pattern.groups(table["path"].combine_chunks())
            table = table.set_column(SCHEMA.get_field_index("group"), "group", groups)
        batches += table.to_batches()
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def write_sorted(table: pa.Table, path: Path) -> pa.Table:
    """Write a table to a file, sorted by path, and return it memory-mapped."""
    order = pc.sort_indices(table, [("path", "ascending")])
    with whole_file(path) as part, pa.ipc.new_file(part, SCHEMA) as writer:
        for start in range(0, len(order), BATCH):
            writer.write_table(table.take(order.slice(start, BATCH)))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def unpack(table: pa.Table) -> Iterator[Entry]:
    """Yield the entries of a table, with a few thousand of them in memory at a time."""
    for batch in table.to_batches(BATCH):
        columns = batch.to_pydict()
        columns["reason"] = [reason or "" for reason in columns["reason"]]
        columns["mask_files"] = [unpack_mask_files(files) for files in columns["mask_files"]]
        yield from map(Entry, *columns.values())


def unpack_mask_files(files: Iterable[dict[str, Any]] | None) -> tuple[MaskFile, ...] | None:
    """Return a value of the column ``mask_files`` as it is in ``Entry``."""
    return None if files is None else tuple(MaskFile(**file) for file in files)
