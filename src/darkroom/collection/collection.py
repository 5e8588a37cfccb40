"""Finds the labelled images of a collection: one row for every file, in the order of their paths."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.archive import TarFiles
from darkroom.collection.arrangement import explain_path
from darkroom.collection.checks import check_collection, explain_not_found
from darkroom.collection.entries import Entry, Files, Split, split_called
from darkroom.collection.folder import LINKED_FOLDER, FolderFiles, as_text
from darkroom.collection.grouping import GroupPattern
from darkroom.collection.huggingface import HuggingFaceFiles, is_hugging_face
from darkroom.collection.idx import IdxFiles, find_idx
from darkroom.collection.manifest import Columns, label_by_manifest
from darkroom.collection.names import Renaming, is_blank, quoted
from darkroom.collection.system_files import is_hidden
from darkroom.config.data import DataSource
from darkroom.errors import UserError

BATCH = 8_192
"""Rows that are held in memory at once."""

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("weight", pa.float64()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
"""One row an ``Entry``."""


@dataclass(frozen=True)
class Collection:
    """What was found, and the place to read it from."""

    files: Files
    table: pa.Table
    """``SCHEMA``, sorted by path, memory-mapped."""
    separator: str | None = None
    """What parts the labels of an image, which are a set of classes; None: its label is one class."""
    is_labelled_by_folders: bool = False
    """Whether everything in a class folder counts as an image of that class, unlike in a manifest,
    which lists each one."""
    missing: str = ""
    """What is to be said of listed files that are not there; empty if there are none."""

    @property
    def num_to_read(self) -> int:
        return self.table["outcome"].null_count

    def rows(self) -> Iterator[Entry]:
        """Yields the entries, a few thousand of them in memory at a time."""
        return _unpack(self.table)


def find_collection(source: DataSource, scratch: Path) -> Collection:
    """Lists every file of ``source`` with its label.

    Labels come from the manifest if one is named, from idx files or a Hugging Face copy if the
    folder is one, else from class folders: ``CLASS/**`` or ``{train,val,test}/CLASS/**``. The order
    of files on disk is irrelevant.

    Args:
        scratch: folder for the table, which is memory-mapped because it may have millions of rows.

    Raises:
        UserError: there is nothing at ``source.path``, or it is not arranged in one of these ways.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    rename = Renaming(source.merge_labels)
    pattern = None if source.group_pattern is None else GroupPattern(source.group_pattern)
    files = open_files(Path(source.path), scratch)
    by_folders = source.manifest is None and not isinstance(files, IdxFiles | HuggingFaceFiles)
    if source.manifest is not None:
        columns = Columns(
            path=source.path_column,
            label=source.label_column,
            split=source.split_column,
            group=source.group_column,
            weight=source.weight_column,
        )
        entries = label_by_manifest(
            files, source.manifest, columns, source.label_separator, rename, source.image_root
        )
    elif not by_folders:
        entries = _rename(files, rename)
    else:
        found = _pack(files.entries(), scratch / "found.arrow")
        entries = _label_by_folders(files, found, source.class_name, rename)
    table = _sort(_pack(entries, scratch / "unsorted.arrow", pattern), scratch)
    missing = explain_not_found(table, source)
    check_collection(table, files, source, by_folders, missing, rename)
    return Collection(files, table, source.label_separator, by_folders, missing)


def open_files(path: Path, scratch: Path) -> Files:
    """Returns the place that ``path`` is: a folder, a tar, idx files, a Hugging Face copy.

    Raises:
        UserError: it is none of these.
    """
    if problem := explain_path(str(path)):
        raise UserError(f"data.path: {problem}")
    if path.is_file():
        return TarFiles(path)
    if find_idx(path):
        return IdxFiles(path, scratch)
    if is_hugging_face(path):
        return HuggingFaceFiles(path, scratch)
    return FolderFiles(path)


def _rename(files: Files, rename: Renaming) -> Iterator[Entry]:
    """Yields the entries of a place that labels its files itself, with their classes."""
    for entry in files.entries():
        yield (
            entry if entry.label is None else replace(entry, label=_class_of(entry.label, files, rename))
        )


def _class_of(label: str, files: Files, rename: Renaming) -> str:
    """Returns the class of a label.

    Raises:
        UserError: nothing of the label can be seen.
    """
    if is_blank(label):
        raise UserError(
            f"data.path: {files.name} has a class whose name {quoted(label)} consists of blanks or"
            " invisible characters alone; rename it"
        )
    return rename(label)


def _label_by_folders(
    files: Files, found: pa.Table, class_name: str, rename: Renaming
) -> Iterator[Entry]:
    """Takes label and split from the folders that a file lies in.

    Raises:
        UserError: a class folder is empty, has a name of blanks, or is a link that leaves the
            collection; or folders of splits are mixed with others.
    """
    tops = {e.path.split("/")[0] for e in _unpack(found) if "/" in e.path and e.outcome != "hidden"}
    tops -= {"", ".."}  # of members that climb out of an archive
    splits = _split_folders(files.name, sorted(tops | _subfolders(files, "")))
    empty = set()
    for parent in splits or [""]:
        empty |= _subfolders(files, parent)
    for entry in _unpack(found):
        folders = entry.path.split("/")[:-1]
        split = splits.get(folders[0]) if folders else None
        classes = [name.strip() for name in (folders[1:] if split else folders)]
        if entry.reason == LINKED_FOLDER:
            _refuse_linked_folder(files, entry.path, splits)
        if entry.outcome == "hidden":
            yield entry
        elif entry.outcome and (not classes or folders[0] in ("", "..")):
            yield entry  # such as a link to a class folder elsewhere
        elif not classes:
            yield replace(entry, outcome="unlisted", reason="outside of the class folders")
        else:
            used = {"top": classes[:1], "leaf": classes[-1:], "path": classes}[class_name]
            for name in filter(is_blank, used):
                _class_of(name, files, rename)
            label = rename("/".join(used))
            empty.discard("/".join(folders[: 2 if split else 1]))
            yield replace(entry, label=label, split=split)
    if empty:
        names = ", ".join(f"{files.name}/{name}" for name in sorted(empty))
        raise UserError(f"data.path: empty class folders: {names}; fill or remove them")


def _refuse_linked_folder(files: Files, path: str, splits: Mapping[str, Split]) -> None:
    """Refuses a linked folder where a class or a split should be: all of its images would be missing."""
    parent, _, name = path.rpartition("/")
    if parent and parent not in splits:
        return  # somewhere inside of a class
    kind = "split" if not parent and split_called(name) else "class"
    raise UserError(
        f"data.path: the {kind} folder {path} is a link that leaves"
        f" {files.name}, and DVC would not notice changes there; copy the folder into {files.name}, or"
        " name a data.path that holds both"
    )


def _subfolders(files: Files, parent: str) -> set[str]:
    """Returns the folders in ``parent``, but links that leave; an archive lists files alone."""
    if not isinstance(files, FolderFiles):
        return set()
    root = files.root.resolve()
    folders = (path for path in (files.root / parent).iterdir() if path.is_dir())
    inside = (path for path in folders if path.resolve().is_relative_to(root))
    paths = (as_text(path.relative_to(files.root).as_posix()) for path in inside)
    return {path for path in paths if not is_hidden(path)}


def _split_folders(name: str, tops: list[str]) -> dict[str, Split]:
    """Returns the folders of given splits; none if the top folders are classes."""
    splits = {top: split for top in tops if (split := split_called(top))}
    given = set(splits.values())
    if "train" not in given or (len(given) == 1 and len(tops) > 1):
        return {}  # a class may be called train
    if len(splits) < len(tops) or len(given) < len(splits):
        raise UserError(
            f"data.path: {name} holds {', '.join(tops)}; it must hold either one folder a class, or"
            " one folder for train and at most one for each of val and test, with class folders inside"
        )
    return splits


def _pack(entries: Iterable[Entry], path: Path, pattern: GroupPattern | None = None) -> pa.Table:
    """Writes entries to a file and returns it as a memory-mapped table."""

    def tables() -> Iterator[pa.Table]:
        for batch in _batched(entries):
            columns = {name: [getattr(entry, name) for entry in batch] for name in SCHEMA.names}
            table = pa.table(columns, schema=SCHEMA)
            if pattern is not None:
                groups = pattern.groups(table["path"].combine_chunks())
                table = table.set_column(SCHEMA.get_field_index("group"), "group", groups)
            yield table

    return _write(tables(), path)


def _write(tables: Iterable[pa.Table], path: Path) -> pa.Table:
    part = path.with_suffix(".part")
    with pa.ipc.new_file(part, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
    part.replace(path)  # whoever has mapped the old one keeps it
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _sort(table: pa.Table, scratch: Path) -> pa.Table:
    order = pc.sort_indices(table, [("path", "ascending")])
    whole = table.combine_chunks()  # else each `take` would do it
    starts = range(0, len(order), BATCH)
    return _write((whole.take(order.slice(start, BATCH)) for start in starts), scratch / "sorted.arrow")


def _unpack(table: pa.Table) -> Iterator[Entry]:
    for batch in table.to_batches(BATCH):
        for row in batch.to_pylist():
            yield Entry(**{**row, "reason": row["reason"] or ""})


def _batched(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, BATCH)):
        yield batch
