"""Finds the labelled images of a collection: one row per file, sorted by path."""

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
from darkroom.collection.labels import classes_in
from darkroom.collection.manifest import Columns, label_by_manifest
from darkroom.collection.mask_classes import SEPARATOR, MaskClasses, load_mask_classes
from darkroom.collection.masks import has_masks, label_by_masks, may_have_masks, with_masks
from darkroom.collection.names import Renaming, is_blank, quoted
from darkroom.collection.own_columns import OwnColumns
from darkroom.collection.system_files import is_hidden
from darkroom.collection.table_rows import TableFile, find_table, label_rows
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.data import DataSource
from darkroom.errors import UserError
from darkroom.inputs import Input
from darkroom.targets import Target
from darkroom.whole_files import whole_file

BATCH = 8_192
"""Maximum number of rows that are unpacked at once."""

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
        ("mask", pa.string()),
        ("mask_offset", pa.int64()),
        ("mask_size", pa.int64()),
    ]
)
"""The fields of ``Entry``."""


@dataclass(frozen=True)
class Collection:
    """The files that were found, and the place to read them from."""

    files: Files
    table: pa.Table
    """``SCHEMA``, sorted by path, memory-mapped."""
    separator: str | None = None
    """Separator of the labels of an image, which are a set of classes; None: one class per image."""
    is_labelled_by_folders: bool = False
    """Whether every file in a class folder counts as an image of that class. A manifest, in contrast,
    lists each image."""
    missing: str = ""
    """Message about listed files that are missing; empty if there are none."""
    remarks: tuple[str, ...] = ()
    """Messages about columns of the manifest that are not kept."""
    mask_classes: MaskClasses | None = None
    """The classes of masks; None: images have labels."""

    rows_of: TableFile | None = None
    """The table whose rows are the entries; None: the entries are files with images."""

    @property
    def input(self) -> Input:
        """What a model predicts from."""
        return "image" if self.rows_of is None else "row"

    @property
    def target(self) -> Target:
        """What the images are labelled with."""
        if self.mask_classes is not None:
            return "mask"
        return "one_class" if self.separator is None else "several_labels"

    def class_names(self, labels: Iterable[str]) -> list[str]:
        """Return the classes, sorted, or in the order of the table of classes.

        Args:
            labels: the texts of labels that occur; see ``labels.split_labels``.
        """
        if self.mask_classes is not None:
            return list(self.mask_classes.names)
        return sorted(classes_in(labels, self.separator))

    @property
    def num_to_read(self) -> int:
        return self.table["outcome"].null_count

    def rows(self) -> Iterator[Entry]:
        """Yield the entries, with a few thousand of them in memory at a time."""
        return _unpack(self.table)


def find_collection(source: DataSource, scratch: Path, troubles: Troubles | None = None) -> Collection:
    """List every file of ``source`` with its label.

    Labels come from the manifest if one is named; else from idx files or a Hugging Face copy if the
    folder is one; else from masks if there are folders ``images`` and ``masks``; else from class
    folders: ``CLASS/**`` or ``{train,val,test}/CLASS/**``. The order of files on disk does not matter.

    Args:
        scratch: folder for the table, which is memory-mapped because it may have millions of rows.
        troubles: gets mistakes that do not prevent other checks; None: they are raised.

    Raises:
        UserError: there is nothing at ``source.path``, or its arrangement is unknown. The message
            includes the mistakes in ``troubles``.
    """
    found = Troubles() if troubles is None else troubles
    try:
        collection = _find(source, scratch, found)
    except UserError as error:
        found.add(Trouble("Collection", f"{error}"))
        found.refuse()
        raise
    if troubles is None:
        found.refuse()
    return collection


def _find(source: DataSource, scratch: Path, troubles: Troubles) -> Collection:
    scratch.mkdir(parents=True, exist_ok=True)
    rename = Renaming(source.merge_labels)
    pattern = None if source.group_pattern is None else GroupPattern(source.group_pattern)
    own = OwnColumns(source.slice_columns)
    files = open_files(Path(source.path), scratch)
    rows_of = None
    if source.table is not None:
        rows_of = find_table(files, _tabulate(files.entries()), source)
    by_folders = (
        source.manifest is None
        and rows_of is None
        and not isinstance(files, IdxFiles | HuggingFaceFiles)
    )
    by_masks = source.mask_column is not None
    if rows_of is not None:
        entries = label_rows(rows_of, rename, own)
    elif source.manifest is not None:
        columns = Columns(
            path=source.path_column,
            label=None if by_masks else source.label_column,
            mask=source.mask_column,
            split=source.split_column,
            group=source.group_column,
            weight=source.weight_column,
        )
        entries = label_by_manifest(
            files, source.manifest, columns, source.label_separator, rename, source.image_root, own
        )
    elif not by_folders:
        entries = _rename(files, rename)
    else:
        found = _tabulate(files.entries())
        by_masks = source.masks == "auto" and _has_masks(found)
        if by_masks:
            entries = label_by_masks(files.name, _unpack(found), source.classes_file)
        else:
            entries = _label_by_folders(files, found, source.class_name, rename, troubles)
    classes = _mask_classes(files, source, by_masks)
    if classes is not None:
        entries = with_masks(entries)
    table = _write_sorted(_tabulate(entries, pattern), scratch / "collection.arrow")
    missing = explain_not_found(table, source)
    check_collection(table, files, source, by_folders, by_masks, missing, rename, troubles)
    separator = SEPARATOR if by_masks else source.label_separator
    remarks = tuple(own.remarks)
    return Collection(files, table, separator, by_folders, missing, remarks, classes, rows_of)


def _has_masks(found: pa.Table) -> bool:
    if not may_have_masks(found["path"]):
        return False
    return has_masks(entry.path for entry in _unpack(found) if entry.outcome is None)


def _mask_classes(files: Files, source: DataSource, by_masks: bool) -> MaskClasses | None:
    """Return the classes of masks; None if there are no masks.

    Raises:
        UserError: labels are to be merged, or a table of classes is given without masks.
    """
    if by_masks:
        if source.merge_labels:
            raise UserError(
                f"data.merge_labels: {source.merge_labels} is for labels, but {files.name} has masks,"
                " whose classes are those of data.classes_file; set it to {}, or data.masks to none"
            )
        return load_mask_classes(files, source.classes_file, source.void)
    if source.classes_file is not None:
        raise UserError(
            f"data.classes_file: {source.classes_file!r} has the classes of masks, but {files.name} has"
            " no folders images and masks; set it to null, or name the folders so"
        )
    return None


def open_files(path: Path, scratch: Path) -> Files:
    """Return the files at ``path``: a folder, a tar, idx files, or a Hugging Face copy.

    Raises:
        UserError: ``path`` is none of these.
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
    """Yield the entries of a place that labels its files itself, with merged labels."""
    for entry in files.entries():
        yield (
            entry if entry.label is None else replace(entry, label=_class_of(entry.label, files, rename))
        )


def _class_of(label: str, files: Files, rename: Renaming) -> str:
    """Return the class of a label.

    Raises:
        UserError: the label has no visible character.
    """
    if is_blank(label):
        raise UserError(
            f"data.path: {files.name} has a class whose name {quoted(label)} consists only of blanks"
            " or invisible characters; rename it"
        )
    return rename(label)


def _label_by_folders(
    files: Files, found: pa.Table, class_name: str, rename: Renaming, troubles: Troubles
) -> Iterator[Entry]:
    """Yield entries with label and split taken from the folders that contain the file.

    Args:
        troubles: gets empty class folders.

    Raises:
        UserError: a class folder has a blank name or is a link that leaves the collection, or split
            folders are mixed with other folders.
    """
    tops = {e.path.split("/")[0] for e in _unpack(found) if "/" in e.path and e.outcome != "hidden"}
    tops -= {"", ".."}  # from archive members outside of the archive's root
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
            yield entry  # for example a link to a file elsewhere
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
        message = f"data.path: empty class folders: {names}; fill or remove them"
        troubles.add(Trouble("Empty class folders", message))


def _refuse_linked_folder(files: Files, path: str, splits: Mapping[str, Split]) -> None:
    """Refuse a link in place of a class or split folder, because all of its images would be missing."""
    parent, _, name = path.rpartition("/")
    if parent and parent not in splits:
        return  # inside a class folder
    kind = "split" if not parent and split_called(name) else "class"
    raise UserError(
        f"data.path: the {kind} folder {path} is a link that leads out of {files.name}, and DVC would"
        f" not notice changes there; copy the folder into {files.name}, or set data.path to a folder"
        " that contains both"
    )


def _subfolders(files: Files, parent: str) -> set[str]:
    """Return the folders in ``parent``, without links that leave; none in an archive."""
    if not isinstance(files, FolderFiles):
        return set()
    root = files.root.resolve()
    folders = (path for path in (files.root / parent).iterdir() if path.is_dir())
    inside = (path for path in folders if path.resolve().is_relative_to(root))
    paths = (as_text(path.relative_to(files.root).as_posix()) for path in inside)
    return {path for path in paths if not is_hidden(path)}


def _split_folders(name: str, tops: list[str]) -> dict[str, Split]:
    """Return the split of each split folder; empty if the top folders are classes."""
    splits = {top: split for top in tops if (split := split_called(top))}
    given = set(splits.values())
    if "train" not in given or (len(given) == 1 and len(tops) > 1):
        return {}  # a class may be called train
    if len(splits) < len(tops) or len(given) < len(splits):
        raise UserError(
            f"data.path: {name} contains {', '.join(tops)}; it must contain either one folder per class,"
            " or one folder for train and at most one each for val and test, with class folders inside"
        )
    return splits


def _tabulate(entries: Iterable[Entry], pattern: GroupPattern | None = None) -> pa.Table:
    """Return entries as a table in memory, in about 150 bytes per entry."""
    batches = []
    for batch in _batched(entries):
        columns = {name: [getattr(entry, name) for entry in batch] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA)
        if pattern is not None:
            groups = pattern.groups(table["path"].combine_chunks())
            table = table.set_column(SCHEMA.get_field_index("group"), "group", groups)
        batches += table.to_batches()
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def _write_sorted(table: pa.Table, path: Path) -> pa.Table:
    """Write a table to a file, sorted by path, and return it memory-mapped."""
    order = pc.sort_indices(table, [("path", "ascending")])
    with whole_file(path) as part, pa.ipc.new_file(part, SCHEMA) as writer:
        for start in range(0, len(order), BATCH):
            writer.write_table(table.take(order.slice(start, BATCH)))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _unpack(table: pa.Table) -> Iterator[Entry]:
    for batch in table.to_batches(BATCH):
        for row in batch.to_pylist():
            yield Entry(**{**row, "reason": row["reason"] or ""})


def _batched(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, BATCH)):
        yield batch
