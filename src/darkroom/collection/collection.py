"""Finds the labelled images of a collection: one row per file, sorted by path."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from darkroom.collection.archive import TarFiles
from darkroom.collection.arrangement import explain_path
from darkroom.collection.checks import check_collection, explain_not_found
from darkroom.collection.class_folders import class_of, label_by_folders
from darkroom.collection.entries import Entry, Files
from darkroom.collection.entry_table import tabulate, unpack, write_sorted
from darkroom.collection.folder import FolderFiles
from darkroom.collection.grouping import GroupPattern
from darkroom.collection.huggingface import HuggingFaceFiles, is_hugging_face
from darkroom.collection.idx import IdxFiles, find_idx
from darkroom.collection.labels import classes_in
from darkroom.collection.manifest import Columns, label_by_manifest
from darkroom.collection.mask_classes import SEPARATOR, MaskClasses, load_mask_classes
from darkroom.collection.mask_pairs import has_masks, may_have_masks
from darkroom.collection.masks import label_by_masks, with_masks
from darkroom.collection.names import Renaming
from darkroom.collection.own_columns import OwnColumns
from darkroom.collection.table_rows import TableFile, find_table, label_rows
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.data import DataSource
from darkroom.errors import UserError
from darkroom.inputs import Input
from darkroom.targets import Target


@dataclass(frozen=True)
class Collection:
    """The files that were found, and the place to read them from."""

    files: Files
    table: pa.Table
    """``entry_table.SCHEMA``, sorted by path, memory-mapped."""
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
        return unpack(self.table)


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
        rows_of = find_table(files, tabulate(files.entries()), source)
    by_folders = (
        source.manifest is None
        and rows_of is None
        and not isinstance(files, IdxFiles | HuggingFaceFiles)
    )
    by_masks = source.mask_column is not None
    found = None
    if by_folders:
        found = tabulate(files.entries())
        by_masks = source.masks == "auto" and _has_masks(found)
    classes = _mask_classes(files, source, by_masks)
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
    elif found is None:
        entries = _rename(files, rename)
    elif classes is not None:
        entries = label_by_masks(files.name, unpack(found), classes)
    else:
        entries = label_by_folders(files, found, source.class_name, rename, troubles)
    if classes is not None:
        entries = with_masks(entries)
    table = write_sorted(tabulate(entries, pattern), scratch / "collection.arrow")
    missing = explain_not_found(table, source)
    check_collection(table, files, source, by_folders, by_masks, missing, rename, troubles)
    separator = SEPARATOR if by_masks else source.label_separator
    remarks = tuple(own.remarks)
    return Collection(files, table, separator, by_folders, missing, remarks, classes, rows_of)


def _has_masks(found: pa.Table) -> bool:
    if not may_have_masks(found["path"]):
        return False
    return has_masks(entry.path for entry in unpack(found) if entry.outcome is None)


def _mask_classes(files: Files, source: DataSource, by_masks: bool) -> MaskClasses | None:
    """Return the classes of masks; None if there are no masks.

    Raises:
        UserError: labels are to be merged, a table of classes is given without masks, or a manifest
            names masks whose classes have files of their own.
    """
    if by_masks:
        if source.merge_labels:
            raise UserError(
                f"data.merge_labels: {source.merge_labels} is for labels, but {files.name} has masks,"
                " whose classes are those of data.classes_file; set it to {}, or data.masks to none"
            )
        classes = load_mask_classes(files, source.classes_file, source.void)
        if classes.files and source.manifest is not None:
            raise UserError(
                f"data.classes_file: {classes.table} has a file per class, which are found in folders"
                f" images and masks, but data.manifest {source.manifest!r} names one mask per image; set"
                " it to null, or give the table the columns index and name"
            )
        return classes
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
            entry if entry.label is None else replace(entry, label=class_of(entry.label, files, rename))
        )
