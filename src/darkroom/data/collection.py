"""Finds the labelled images in a folder of class folders."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from darkroom.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of a collection. ``path`` is relative to the collection's folder, with ``/``."""

    path: str
    label: str
    split: Split | None
    """The split its folder gives, if there are such folders."""


@dataclass(frozen=True)
class Collection:
    """What lies in a folder: candidates, in the order of their paths, and hidden files beside."""

    root: Path
    files: list[ImageFile]
    hidden: list[ImageFile]

    @property
    def class_names(self) -> list[str]:
        return sorted({file.label for file in self.files})

    @property
    def given_splits(self) -> set[Split]:
        return {file.split for file in self.files if file.split is not None}


def scan_collection(root: Path) -> Collection:
    """Lists ``root/CLASS/**``, or ``root/{train,val,test}/CLASS/**`` where such folders are.

    The order of files on disk is irrelevant. Hidden files (``.DS_Store``, ``._x.jpg``,
    ``Thumbs.db``) are set apart; every other file counts as an image that must be readable.

    Raises:
        UserError: there is no such folder, a class folder is empty, a file lies outside of the
            class folders, there are fewer than two classes, or splits have unequal classes.
    """
    if not root.is_dir():
        raise UserError(f"data.path: {root} is not a folder")
    split_folders = {
        _SPLIT_FOLDERS[entry.name]: entry.name
        for entry in os.scandir(root)
        if entry.is_dir() and entry.name in _SPLIT_FOLDERS
    }
    given = "train" in split_folders and all(
        entry.is_file() or entry.name in split_folders.values() or _is_hidden(entry.name)
        for entry in os.scandir(root)
    )
    parts: list[tuple[Path, Split | None]] = (
        [(root / split_folders[split], split) for split in SPLITS if split in split_folders]
        if given
        else [(root, None)]
    )
    found = [file for folder, split in parts for file in _class_files(root, folder, split)]
    collection = Collection(
        root,
        sorted((f for f in found if not _is_hidden(f.path)), key=lambda f: f.path),
        sorted((f for f in found if _is_hidden(f.path)), key=lambda f: f.path),
    )
    _check(collection, [folder for folder, _ in parts])
    return collection


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "Thumbs.db" for part in path.split("/"))


def _class_files(root: Path, folder: Path, split: Split | None) -> Iterator[ImageFile]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            for parent, _, names in os.walk(entry.path):
                for name in names:
                    path = Path(parent, name).relative_to(root).as_posix()
                    yield ImageFile(path, entry.name, split)
        else:
            yield ImageFile(Path(entry.path).relative_to(root).as_posix(), "", split)


def _check(collection: Collection, folders: list[Path]) -> None:
    root = collection.root
    stray = [file.path for file in collection.files if not file.label]
    if stray:
        raise UserError(
            f"data.path: {root} must hold one folder a class; these files lie outside of them: "
            + ", ".join(stray)
        )
    if len(collection.class_names) < 2:
        raise UserError(
            f"data.path: {root} holds {len(collection.class_names)} class folders with images; "
            f"at least two are needed, as in {root}/cat/1.jpg, {root}/dog/1.jpg"
        )
    counts = Counter((file.split, file.label) for file in collection.files)
    splits: list[Split | None] = [*sorted(collection.given_splits)] or [None]
    empty = [
        str(Path(folder, entry.name))
        for folder in folders
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if entry.is_dir()
        and not _is_hidden(entry.name)
        and not any(counts[split, entry.name] for split in splits if _holds(folder, split))
    ]
    if empty:
        raise UserError("data.path: empty class folders: " + ", ".join(empty) + "; fill or remove them")
    for split in splits:
        classes = {label for given, label in counts if given == split}
        unknown = classes - {label for given, label in counts if given in (None, "train")}
        if unknown:
            raise UserError(
                f"data.path: the {split} folder of {root} has classes that train lacks: "
                + ", ".join(sorted(unknown))
            )


def _holds(folder: Path, split: Split | None) -> bool:
    return split is None or _SPLIT_FOLDERS.get(folder.name) == split
