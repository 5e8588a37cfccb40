"""Write a manifest with corrected labels or without some images, in which every image keeps its split.

The new manifest lies in the collection, so that DVC versions it with the images. A manifest that is in
use is copied with all of its columns; a collection of class folders gets its first one. A table of rows
(``data.table``) is copied as a manifest is.
"""

import csv
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from darkroom.collection.cells import path_in_collection
from darkroom.collection.huggingface import is_hugging_face
from darkroom.collection.idx import find_idx
from darkroom.collection.rows import column_names, read_rows
from darkroom.config.data import DataSource
from darkroom.errors import UserError, listed
from darkroom.paths import fetched_name
from darkroom.suspects.changes import MAX_NAMED, Changes, Known

PathOf = Callable[[str, int, Mapping[str, str]], str]
"""Returns the path in the collection of what a line of a manifest or table is about, from its cells."""


@dataclass(frozen=True)
class Corrected:
    """The new manifest or table, and the parameters that make ``prepare`` use it."""

    path: Path
    params: dict[str, Any]
    """Values by full name."""
    num_unlisted: int
    """Number of unused files that the manifest does not list."""


def write_corrected(
    source: DataSource,
    known: Mapping[str, Known],
    changes: Changes,
    name: str | None,
    open_table: Any,
    force: bool = False,
) -> Corrected:
    """Write the manifest with the changed labels and without excluded images, completely or not at all.

    Args:
        name: the new file, beside the old manifest or table, or in the collection if there is none;
            None: ``labels.csv`` or ``NAME-relabelled.csv``.
        open_table: a context manager that opens a file which appears when the block succeeds.
        force: replace an existing file.

    Raises:
        UserError: the collection is not a folder of files, the file exists, or a changed image is not in
            the manifest or table.
    """
    root = Path(source.path)
    _check_place(source, root)
    copied = source.table or source.manifest
    folder = root / posixpath.dirname(copied or "")
    if name is None:
        name = f"{PurePosixPath(copied).stem}-relabelled.csv" if copied else "labels.csv"
    if "/" in name or "\\" in name or not name.endswith(".csv"):
        raise UserError(f"--out {name}: must be the name of a .csv file, which is written to {folder}")
    target = folder / name
    if target.exists() and not force:
        raise UserError(f"{target}: exists; choose another name with --out, or replace it with --force")
    relative = target.relative_to(root).as_posix()
    option = "manifest" if source.table is None else "table"
    if copied is None:
        columns, rows = ["path", "label", "split"], list(_listing(known, changes))
        num_unlisted = sum(not image.split for path, image in known.items() if path not in changes)
        params: dict[str, Any] = {
            "path_column": "path",
            "label_column": "label",
            "split_column": "split",
        }
        kept = {changes.get(path, one.label) for path, one in known.items()}
        merged = {old: new for old, new in source.merge_labels.items() if old in kept}
        params |= {"merge_labels": merged}
    else:
        path_of = _paths_of_images(source, known) if source.table is None else _path_of_row
        columns, rows, split_column = _copy(source, copied, path_of, known, changes)
        num_unlisted, params = 0, {"split_column": split_column}
    with open_table(target) as file:
        _write(file, columns, rows)
    params = {f"data.{key}": value for key, value in {option: relative, **params}.items()}
    now = {f"data.{key}": value for key, value in source.model_dump().items()}
    return Corrected(
        target, {key: value for key, value in params.items() if now[key] != value}, num_unlisted
    )


def _check_place(source: DataSource, root: Path) -> None:
    if fetched := fetched_name(source.path):
        raise UserError(
            f"data.path: {source.path} is only for what fetch writes; copy it with `mkdir -p data/mine"
            f" && cp -r {source.path} data/mine/{fetched}`, and set data.fetch: [] and data.path:"
            f" data/mine/{fetched}"
        )
    if not root.is_dir() or find_idx(root) or is_hugging_face(root):
        raise UserError(
            f"data.path: {source.path} is not a folder, and the corrected file must be"
            " inside the collection; write its files to a folder, and set data.path to that"
        )


def _listing(known: Mapping[str, Known], changes: Changes) -> Iterator[list[str]]:
    for path, image in known.items():
        label = changes.get(path, image.label)
        if image.split and label is not None:
            yield [path, label, image.split]


def _copy(
    source: DataSource,
    copied: str,
    path_of: PathOf,
    known: Mapping[str, Known],
    changes: Changes,
) -> tuple[list[str], list[list[str]], str]:
    """Return the columns and rows of the file in use, with new labels and the splits in use.

    Args:
        copied: the manifest or the table, relative to the collection.
    """
    file = Path(source.path) / copied
    content = file.read_bytes()
    names = column_names(f"{file}", content, {source.path_column, source.label_column})
    columns = list(names)
    split_column = source.split_column
    if split_column is None:
        split_column = "split" if "split" not in columns else "darkroom_split"
        columns.append(split_column)
    rows, unseen = [], set(changes)
    for line, values in read_rows(f"{file}", content, {name: name for name in names}):
        cells = {
            name: _cell(value, source.label_separator) for name, value in zip(names, values, strict=True)
        }
        path = path_of(copied, line, cells)
        if path in changes:
            unseen.discard(path)
            if (label := changes[path]) is None:
                continue
            cells[source.label_column] = label
        if path in known:
            cells[split_column] = known[path].split or ""
        rows.append([cells.get(column, "") for column in columns])
    if unseen:
        raise UserError(
            f"{file}: does not list {listed(sorted(unseen), MAX_NAMED)}; run `dvc repro prepare`, then"
            " `darkroom suspects` again"
        )
    return columns, rows, split_column


def _path_of_row(table: str, line: int, cells: Mapping[str, str]) -> str:
    return f"{posixpath.normpath(table)}:{line}"


def _paths_of_images(source: DataSource, known: Mapping[str, Known]) -> PathOf:
    with_backslash = frozenset(path for path in known if "\\" in path)
    composed = {unicodedata.normalize("NFC", path): path for path in known}

    def path_of(manifest: str, line: int, cells: Mapping[str, str]) -> str:
        folder = posixpath.dirname(posixpath.normpath(manifest))
        if source.image_root is not None:
            folder = posixpath.normpath(source.image_root.replace("\\", "/")).removeprefix(".")
        path = path_in_collection(folder, cells[source.path_column], with_backslash) or ""
        return path if path in known else composed.get(unicodedata.normalize("NFC", path), path)

    return path_of


def _cell(value: Any, separator: str | None) -> str:
    """Return a value of a manifest as a CSV has it."""
    if isinstance(value, list):
        return (separator or "|").join(_cell(part, None) for part in value)
    if isinstance(value, bool):
        return f"{value}".lower()
    return "" if value is None or value != value else f"{value}"


def _write(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
