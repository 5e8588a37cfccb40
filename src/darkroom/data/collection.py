"""Finds the labelled images in a folder of class folders."""

import os
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


def scan_collection(root: Path) -> Collection:
    """Lists ``root/CLASS/**``, or ``root/{train,val,test}/CLASS/**`` where such folders are.

    The order of files on disk is irrelevant. Hidden files (``.DS_Store``, ``._x.jpg``,
    ``Thumbs.db``) are set apart; every other file counts as an image that must be readable. Linked
    folders are followed.

    Raises:
        UserError: there is no such folder, it mixes split and class folders, a folder is empty or
            linked into itself, a file lies outside of the class folders, there are fewer than two
            classes, or a split has a class that train lacks.
    """
    if not root.is_dir():
        raise UserError(f"data.path: {root} is not a folder")
    folders = _split_folders(root) or {None: root}
    found = [file for split, folder in folders.items() for file in _class_files(root, folder, split)]
    if None not in folders:
        found += [ImageFile(entry.name, "", None) for entry in os.scandir(root) if entry.is_file()]
    collection = Collection(
        root,
        sorted((f for f in found if not _is_hidden(f.path)), key=lambda f: f.path),
        sorted((f for f in found if _is_hidden(f.path)), key=lambda f: f.path),
    )
    _check(collection, folders)
    return collection


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "Thumbs.db" for part in path.split("/"))


def _subfolders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not _is_hidden(e.name))


def _split_folders(root: Path) -> dict[Split | None, Path]:
    """Returns the folders of given splits; none if the folders below ``root`` are classes."""
    names = _subfolders(root)
    splits = {name: _SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in _SPLIT_FOLDERS}
    given = set(splits.values())
    if "train" not in given or (len(given) == 1 and len(names) > 1):
        return {}  # a class may be called train
    if len(splits) < len(names) or len(given) < len(splits):
        raise UserError(
            f"data.path: {root} holds {', '.join(names)}; it must hold either one folder a class, or"
            " one folder for train and at most one for each of val and test, with class folders inside"
        )
    return {splits[name]: root / name for name in names}


def _class_files(root: Path, folder: Path, split: Split | None) -> Iterator[ImageFile]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            for path in _files_below(entry.path):
                yield ImageFile(Path(path).relative_to(root).as_posix(), entry.name, split)
        else:
            yield ImageFile(Path(entry.path).relative_to(root).as_posix(), "", split)


def _files_below(folder: str) -> Iterator[str]:
    for parent, names, files in os.walk(folder, followlinks=True):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path) and Path(os.path.realpath(path)) in Path(parent).resolve().parents:
                raise UserError(f"data.path: the link {path} leads back into itself; remove it")
        yield from (os.path.join(parent, name) for name in files)


def _check(collection: Collection, folders: dict[Split | None, Path]) -> None:
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
    classes: dict[Split | None, set[str]] = {split: set() for split in folders}
    for file in collection.files:
        classes[file.split].add(file.label)
    empty = [str(folder) for split, folder in folders.items() if not classes[split]]
    for split, folder in folders.items():
        empty += [str(folder / n) for n in _subfolders(folder) if n not in classes[split]]
    if empty:
        raise UserError("data.path: empty class folders: " + ", ".join(empty) + "; fill or remove them")
    for split in folders:
        unknown = classes[split] - classes.get("train", classes[split])
        if unknown:
            raise UserError(
                f"data.path: the {split} folder of {root} has classes that train lacks: "
                + ", ".join(sorted(unknown))
            )
