"""Checks a collection as a whole, and names the most likely cause of each mistake."""

import posixpath
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.arrangement import explain_arrangement
from darkroom.collection.entries import BAD, Files, split_called
from darkroom.collection.folder import FolderFiles
from darkroom.collection.grouping import check_groups
from darkroom.collection.labels import classes_in
from darkroom.collection.listing import explain_missing
from darkroom.collection.manifest import NOT_THERE, OUT
from darkroom.collection.names import Renaming, explain_look_alikes
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.data import DataSource
from darkroom.errors import UserError, listed


def explain_not_found(table: pa.Table, source: DataSource) -> str:
    """Return how listed files that are missing could be found; empty if none are missing."""
    if source.manifest is None:
        return ""
    reasons = pc.fill_null(table["reason"], "")
    is_missing = pc.or_(pc.starts_with(reasons, NOT_THERE), pc.equal(reasons, OUT))
    missing = table.filter(is_missing)["path"].to_pylist()
    if not missing:
        return ""
    present = table.filter(pc.invert(is_missing))
    present = present.filter(pc.fill_null(pc.not_equal(present["outcome"], "hidden"), True))
    num_listed = len(missing) + present["label"].length() - present["label"].null_count
    there = set(present["path"].to_pylist()) - {posixpath.normpath(source.manifest)}
    if source.image_root is None:
        folder = posixpath.dirname(posixpath.normpath(source.manifest))
    else:
        folder = posixpath.normpath(source.image_root.replace("\\", "/")).removeprefix("./")
    folder = "" if folder == "." else folder
    raw = [path.removeprefix(f"{folder}/") if folder else path for path in missing]
    return explain_missing(raw, there, folder, source.path, num_listed)


def check_collection(
    table: pa.Table,
    files: Files,
    source: DataSource,
    is_labelled_by_folders: bool,
    has_masks: bool,
    missing: str,
    rename: Renaming,
    troubles: Troubles,
) -> None:
    """Check the entries of a collection as a whole.

    Args:
        table: rows of ``collection.SCHEMA``, sorted by path.
        has_masks: whether images have masks, which have not been read, instead of labels.
        missing: the result of ``explain_not_found``.
        rename: the renaming that has read the labels.
        troubles: gets classes whose names look alike, and split folders inside class folders.

    Raises:
        UserError: a path occurs twice, nothing is labelled, there are fewer than two classes, or
            ``data.merge_labels`` or ``data.group_pattern`` do not fit the collection.
    """
    name = source.path
    paths = table["path"].combine_chunks()
    twice = pc.equal(paths[1:], paths[:-1])
    if pc.any(twice).as_py():
        first = paths[1:].filter(twice)[0]
        raise UserError(f"data.path: {name} contains {first} twice; each file needs a unique path")
    to_read = table.select(["path", "label", "split", "group", "outcome"])
    to_read = to_read.filter(pc.is_null(to_read["outcome"]))
    if len(to_read) == 0:
        raise UserError(
            _explain_no_masks(table, source, missing)
            if has_masks
            else _explain_nothing(table, files, source, is_labelled_by_folders, missing)
        )
    if not has_masks:
        _check_labels(table, to_read, files, source, is_labelled_by_folders, rename, troubles)
    if source.group_pattern is not None:
        check_groups(source.group_pattern, to_read["path"], to_read["group"], name)


def _check_labels(
    table: pa.Table,
    to_read: pa.Table,
    files: Files,
    source: DataSource,
    is_labelled_by_folders: bool,
    rename: Renaming,
    troubles: Troubles,
) -> None:
    """Check the labels of the rows to read; see ``check_collection``."""
    name = source.path
    rename.check()
    separator = source.label_separator
    if message := explain_look_alikes(_count_classes(table, separator), source.merge_labels, name):
        troubles.add(Trouble("Classes whose names look alike", message))
    if separator is not None:
        if not _classes(to_read, separator):
            raise UserError(
                f"data.label_column: no file in {name} has a label, because all cells of the column are"
                " empty; at least one label is needed"
            )
    elif len(pc.unique(to_read["label"])) < 2:
        problem = f"{name} has only one class ({to_read['label'][0]}); at least two are needed"
        if source.merge_labels:
            problem += ", after data.merge_labels"
        advice = _explain_folders(table, files) if is_labelled_by_folders else ""
        example = "" if source.table else f", as in {name}/cat/1.jpg, {name}/dog/1.jpg"
        raise UserError(f"data.path: {problem}{f'; {advice}' if advice else example}")
    is_top = is_labelled_by_folders and source.class_name == "top"
    if is_top and (message := _explain_splits_in_classes(to_read, name)):
        troubles.add(Trouble("Split folders inside class folders", message))


def _explain_splits_in_classes(to_read: pa.Table, name: str) -> str:
    """Return a message if class folders hold only split folders, which would be ignored; else empty."""
    if len(to_read["split"].drop_null()) or split_called(f"{to_read['path'][0]}/".split("/")[1]) is None:
        return ""
    folders = pc.extract_regex(to_read["path"], "^(?P<top>[^/]+)/(?P<next>[^/]+)/").combine_chunks()
    inside = set(pc.struct_field(folders, "next").unique().to_pylist())
    splits = {split_called(folder or "") for folder in inside}
    if folders.null_count or None in splits or "train" not in splits or len(splits) == 1:
        return ""
    top = str(to_read["path"][0]).split("/")[0]
    train = min(folder for folder in inside if split_called(folder) == "train")
    return (
        f"data.path: the folders {listed(sorted(inside))} are inside the class folders of {name}, where"
        f" they do not split the images; put them above the classes, as in {train}/{top}"
    )


def _explain_nothing(
    table: pa.Table, files: Files, source: DataSource, is_labelled_by_folders: bool, missing: str
) -> str:
    """Return why no file can be read."""
    name = source.path
    if missing:
        return f"data.manifest: {source.manifest} labels no file in {name}: {missing}"
    if (listing := source.table or source.manifest) is not None:
        what = f"file in {name}" if source.table is None else "row"
        return (
            f"data.label_column: {listing} gives no {what} a label; its column"
            f" {source.label_column} is empty"
        )
    advice = _explain_folders(table, files) if is_labelled_by_folders else ""
    return f"data.path: {name} contains no labelled files; " + (
        advice
        or f"one folder per class is needed, as in {name}/cat/1.jpg, {name}/dog/1.jpg (or data.manifest,"
        " a table that labels the files)"
    )


def _explain_no_masks(table: pa.Table, source: DataSource, missing: str) -> str:
    """Return why no image with a mask can be read."""
    if missing:
        return f"data.manifest: {source.manifest} lists no file in {source.path}: {missing}"
    rows = table.filter(pc.is_in(table["outcome"], pa.array(BAD)))
    first = rows.slice(0, 1).to_pylist()
    example = f"; the first of {len(rows):,}: {first[0]['path']}: {first[0]['reason']}" if first else ""
    what = "the images" if source.manifest is None else f"the rows of {source.manifest}"
    return f"data.path: none of {what} in {source.path} has a mask that can be used{example}"


def _explain_folders(table: pa.Table, files: Files) -> str:
    seen = table.filter(pc.fill_null(pc.not_equal(table["outcome"], "hidden"), True))
    return explain_arrangement(files.name, seen["path"].to_pylist(), isinstance(files, FolderFiles))


def _count_classes(table: pa.Table, separator: str | None) -> Counter[str]:
    """Return the number of files of each class, with any outcome."""
    counts: Counter[str] = Counter()
    for row in pc.value_counts(table["label"].drop_null()).to_pylist():
        for label in classes_in([row["values"]], separator):
            counts[label] += row["counts"]
    return counts


def _classes(rows: pa.Table, separator: str | None) -> set[str]:
    return classes_in(pc.unique(rows["label"]).to_pylist(), separator)
