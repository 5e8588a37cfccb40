"""Reads labels from a manifest, a table beside the files: CSV, Parquet or JSON Lines."""

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.cells import (
    cell_label,
    cell_labels,
    cell_split,
    cell_text,
    cell_weight,
    path_in_collection,
)
from darkroom.collection.entries import Entry, Files, MaskFile
from darkroom.collection.names import Renaming
from darkroom.collection.own_columns import OwnColumns, common_values, in_messages
from darkroom.collection.rows import MAX_TABLE_BYTES, READERS, read_rows
from darkroom.errors import UserError, did_you_mean
from darkroom.parallel import chunked

_BATCH = 8192
"""Maximum number of rows that are held as Python objects at once."""

_FILES = pa.schema(
    [
        ("path", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
_ROWS = pa.schema(
    [
        ("number", pa.int64()),
        ("path", pa.string()),
        ("is_inside", pa.bool_()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("weight", pa.float64()),
        ("mask", pa.string()),
        ("own_values", pa.string()),
    ]
)
"""The rows of the manifest: ``number`` is the line, ``path`` is relative to the collection."""

_MAX_NAMED = 5

NOT_THERE = "listed, but missing"
"""Beginning of the reason for a listed file that does not exist."""
OUT = "a path that leads out of the folder that paths are relative to"
"""Reason for a listed path that is ``outside``."""


@dataclass(frozen=True)
class Columns:
    """Names of the manifest's columns; None: the manifest has no such column."""

    path: str
    label: str | None
    split: str | None = None
    group: str | None = None
    weight: str | None = None
    mask: str | None = None
    """If there is one, images have no labels."""


def label_by_manifest(
    files: Files,
    manifest: str,
    columns: Columns,
    separator: str | None = None,
    rename: Callable[[str], str] | None = None,
    root: str | None = None,
    own: OwnColumns | None = None,
) -> Iterator[Entry]:
    """Yield an entry for each file, with its values from the manifest, and for each missing path.

    Labels are text, without surrounding blanks: ``007``, ``NA`` and ``null`` are classes. Integers and
    booleans in Parquet and JSON Lines become ``7`` and ``true``. Paths are relative to the folder of the
    manifest, or to ``root``. They are written with ``/``, or with backslashes unless the name of a file
    contains one. A path also matches a file whose name differs only in Unicode normalisation.

    With a ``separator``, a label is a set of labels: ``cat|dog`` in a cell, or a list of texts in
    Parquet and JSON Lines. Their order does not matter, and an empty cell is the empty set.

    Paths of masks are resolved like those of images; see ``masks.with_masks``.

    A file that is not listed, or has no label, is ``unlisted``; hidden files stay ``hidden``. A listed
    path without file is ``missing``, and one that leads out of the folder is ``outside``. A file that is
    listed several times counts once if these columns agree, and is ``conflicting label`` otherwise. Of
    its own values, those in which the rows agree are kept.

    Args:
        manifest: path in ``files`` of a .csv, .tsv or .txt (separated by ``,``, ``;`` or tab, according
            to its first line), .parquet, .jsonl or .ndjson.
        separator: the separator of the labels of an image; None: an image has one label.
        rename: returns the class of a label; None: the label is the class.
        root: folder in ``files`` to which listed paths are relative; None: that of the manifest.
        own: chooses further columns to keep; None: none are kept.

    Raises:
        UserError: the manifest is missing, too large or unreadable, has no rows, or lacks a column; or a
            row has no path, an unknown split, a weight that is not positive, an empty label among
            several, or a value that is not text.
    """
    found = ((e.path, e.outcome, e.reason, e.offset, e.size) for e in files.entries())
    there = _tabulate(found, _FILES)
    folder = (
        posixpath.dirname(posixpath.normpath(manifest)) if root is None else _root(files, root, there)
    )
    rename = rename or Renaming({})
    own = own or OwnColumns([])
    rows = _tabulate(_read(files, manifest, columns, separator, rename, folder, there, own), _ROWS)
    index = _find(rows, there["path"])
    yield from _absent(rows.filter(pa.array(index < 0)), there["path"])
    rows = rows.drop_columns(["path", "is_inside"])
    may_have_none = separator is not None or columns.label is None
    yield from _present(rows, index, there, manifest, may_have_none)


def _tabulate(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table, in tens of bytes per row."""
    batches = []
    for chunk in chunked(rows, _BATCH):
        columns = zip(*chunk, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _root(files: Files, root: str, there: pa.Table) -> str:
    """Return ``data.image_root`` as a normal path, empty for the collection itself."""
    folder = posixpath.normpath(root.replace("\\", "/"))
    if folder == ".":
        return ""
    if not pc.any(pc.starts_with(there["path"], f"{folder}/")).as_py():
        parents = {path.rpartition("/")[0] for path in there["path"].to_pylist() if "/" in path}
        raise UserError(
            f"data.image_root: {files.name} has no files in the folder {folder}"
            + did_you_mean(folder, sorted(parents))
        )
    return folder


def _read(
    files: Files,
    manifest: str,
    columns: Columns,
    separator: str | None,
    rename: Callable[[str], str],
    folder: str,
    there: pa.Table,
    own: OwnColumns,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the manifest, as in ``_ROWS``."""
    content = content_of(files, manifest, there)
    name = posixpath.join(files.name, manifest)
    counted = _counted(manifest)
    with_backslash = there["path"].filter(pc.match_substring(there["path"], "\\")).to_pylist()
    keep = frozenset(with_backslash)
    given = {f.name: column for f in fields(columns) if (column := getattr(columns, f.name))}
    roles = {f"data.{role}_column": column for role, column in given.items()}
    own.choose(name, content, roles)
    number = 0
    for number, values in read_rows(name, content, roles | in_messages(own.names)):
        try:
            named = dict(zip(given, values, strict=False))
            if separator is not None:
                named["label"] = cell_labels(named["label"], separator, rename)
            row = {role: cell_text(value, role) for role, value in named.items()}
            if separator is None and "label" in row:
                row["label"] = cell_label(row["label"], rename)
            mask = None if columns.mask is None else row["mask"].strip()
            path = path_in_collection(folder, row["path"], keep)
            yield (
                number,
                path or row["path"],
                path is not None,
                row.get("label", ""),
                cell_split(row.get("split", "")),
                row.get("group", "").strip() or None,
                cell_weight(row.get("weight", "").strip()),
                mask and (path_in_collection(folder, mask, keep) or mask),
                own.pack(values[len(given) :]),
            )
        except ValueError as error:
            raise UserError(f"{name}: {counted} {number} {error}") from None
    if not number:
        raise UserError(f"{name} has no rows")


def content_of(files: Files, manifest: str, there: pa.Table, parameter: str = "data.manifest") -> bytes:
    """Return the bytes of a table in ``files``.

    Args:
        there: the paths in ``files``, with outcome, reason, offset and size.
        parameter: the one that names the table, for messages.

    Raises:
        UserError: the table is missing, too large or unreadable, or has another suffix.
    """
    if posixpath.splitext(manifest)[1].lower() not in READERS:
        raise UserError(f"{parameter}: the suffix of {manifest} is not one of {', '.join(READERS)}")
    index = pc.index(there["path"], posixpath.normpath(manifest)).as_py()
    if index < 0:
        suffixes = "|".join(suffix.removeprefix(".") for suffix in READERS)
        tables = there["path"].filter(pc.match_substring_regex(there["path"], rf"\.({suffixes})$"))
        raise UserError(
            f"{parameter}: {files.name} does not contain {manifest}"
            + did_you_mean(manifest, tables.slice(0, 1000).to_pylist())
        )
    found = there.slice(index, 1).to_pylist()[0]
    if found["outcome"]:
        reason = found["reason"] or f"it is {found['outcome']}"
        raise UserError(f"{parameter}: {manifest} cannot be used: {reason}")
    if found["size"] > MAX_TABLE_BYTES:
        raise UserError(
            f"{parameter}: {manifest} has {found['size']:,} bytes; at most {MAX_TABLE_BYTES:,} are read"
        )
    try:
        return files.read(found["path"], found["offset"], found["size"])
    except OSError as error:
        raise UserError(f"{parameter}: {manifest} cannot be read ({error})") from None


def _find(rows: pa.Table, paths: pa.Array) -> NDArray[np.int64]:
    """Return the index of each row's file in ``paths``, or -1."""
    inside = rows["is_inside"].to_numpy()
    index = np.where(inside, _index(rows["path"], paths), -1)
    absent = np.flatnonzero(inside & (index < 0))
    if len(absent):
        composed = pc.utf8_normalize(paths, "NFC")
        counts = pc.value_counts(composed)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        wanted = pc.utf8_normalize(rows["path"].take(absent), "NFC")
        index[absent] = np.where(pc.is_in(wanted, twice), -1, _index(wanted, composed))
    return index


def _index(wanted: pa.ChunkedArray, paths: pa.ChunkedArray) -> NDArray[np.int64]:
    return pc.fill_null(pc.index_in(wanted, paths), -1).to_numpy().astype(np.int64)


def _absent(rows: pa.Table, paths: pa.ChunkedArray) -> Iterator[Entry]:
    """Yield each listed path without a file once."""
    if len(rows) == 0:
        return
    near = paths.take(pc.index_in(pc.utf8_lower(rows["path"]), pc.utf8_lower(paths)))
    done = set()
    for row, other in zip(_unpack(rows), near, strict=True):
        path = row["path"]
        if path in done:
            continue
        done.add(path)
        columns = {name: row[name] for name in ("split", "group", "weight", "own_values")}
        entry = Entry(path, row["label"] or None, **columns)
        if not row["is_inside"]:
            yield replace(entry, outcome="outside", reason=OUT)
        else:
            hint = f"; a similar path is {other}" if other.is_valid else ""
            yield replace(entry, outcome="missing", reason=f"{NOT_THERE}{hint}")


def _present(
    rows: pa.Table, index: NDArray[np.int64], there: pa.Table, manifest: str, may_have_none: bool
) -> Iterator[Entry]:
    """Yield every file, with the values of the rows that list it."""
    order = np.argsort(index, kind="stable")
    order = order[np.searchsorted(index[order], 0) :]
    numbered = zip(index[order].tolist(), _unpack(rows.take(order)), strict=True)
    listings = groupby(numbered, key=itemgetter(0))
    listed, listing = next(listings, (None, iter(())))
    for number, file in enumerate(_unpack(there)):
        entry = Entry(**file)
        if number == listed:
            yield _listed(entry, [row for _, row in listing], _counted(manifest), may_have_none)
            listed, listing = next(listings, (None, iter(())))
        elif entry.outcome == "hidden":
            yield entry
        else:
            is_manifest = entry.path == posixpath.normpath(manifest)
            reason = "the manifest" if is_manifest else "not in the manifest"
            yield replace(entry, outcome="unlisted", reason=reason)


def _listed(entry: Entry, rows: list[dict[str, Any]], counted: str, may_have_none: bool) -> Entry:
    """Return the entry of a file with the values of the rows that list it."""
    first = rows[0]
    for column in ("label", "split", "group", "weight", "mask"):
        said: dict[Any, int] = {}
        for row in rows:
            said.setdefault(row[column], row["number"])
        if len(said) > 1:
            named = [f"{value or 'none'} ({counted} {n})" for value, n in said.items()]
            reason = f"its {column} is {', '.join(named[:_MAX_NAMED])}"
            return replace(entry, outcome="conflicting label", reason=reason)
    known = {column: first[column] for column in ("split", "group", "weight", "own_values")}
    known["mask_files"] = _mask_files(first["mask"])
    if len(rows) > 1:
        known["own_values"] = common_values(row["own_values"] for row in rows)
    has_label = may_have_none or first["label"].strip()
    labelled = replace(entry, label=first["label"] if has_label else None, **known)
    if entry.outcome == "hidden":
        return replace(labelled, reason="listed, but hidden files are excluded")
    if entry.outcome is None and labelled.label is None:
        return replace(labelled, outcome="unlisted", reason="no label in the manifest")
    if entry.outcome is None and len(rows) > 1:
        return replace(labelled, reason=f"listed {len(rows)} times")
    return labelled


def _mask_files(path: str | None) -> tuple[MaskFile, ...] | None:
    if path is None:
        return None
    return (MaskFile(path),) if path else ()


def _counted(manifest: str) -> str:
    return "row" if manifest.lower().endswith(".parquet") else "line"


def _unpack(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()
