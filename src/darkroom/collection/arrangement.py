"""Explains why a collection has no classes, and which parameter or folder would do."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from darkroom.collection.entries import split_called
from darkroom.collection.rows import READERS
from darkroom.errors import did_you_mean, listed

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".avif", ".tif", ".tiff")


def explain_path(path: str) -> str:
    """Returns what is wrong with a ``data.path`` that is no folder and no tar; empty if nothing."""
    place = Path(path)
    if place.is_dir():
        return ""
    suffix = place.suffix.lower()
    if place.is_file():
        if suffix in READERS:
            return (
                f"{path} is a table; set data.path: {place.parent}, where the images are, and"
                f" data.manifest: {place.name}"
            )
        if suffix in _IMAGES:
            return f"{path} is a single file; set data.path to the folder that holds the class folders"
        return ""
    if place.is_symlink():
        return f"{path} is a link that leads nowhere"
    if place.exists():
        return f"{path} is neither a folder nor a file"
    if path.startswith("~"):
        return f"{path} does not exist; ~ is not replaced here, write {place.expanduser()}"
    parent = next((folder for folder in place.parents if folder.is_dir()), Path())
    missing = parent / place.relative_to(parent).parts[0]
    names = sorted(item.name for item in parent.iterdir() if not item.name.startswith("."))
    near = did_you_mean(missing.name, names)
    if near and missing != place:
        near = f" ({missing.name} is not there{near})"
    elif near:
        near = f"; did you mean {parent / near.removeprefix('; did you mean ').strip('?')}?"
    return f"{path} does not exist{near}"


def explain_arrangement(name: str, paths: Iterable[str], is_folder: bool) -> str:
    """Explains, for a collection with fewer than two class folders, what it holds and what would work.

    Args:
        name: of the collection.
        paths: of all its files that no system left behind, relative to it.
        is_folder: whether the collection is a folder, so that one inside of it can be named.

    Returns:
        A sentence that begins with what there is; empty if nothing is to be said.
    """
    return _explain(name, _Tree(paths), "", is_folder)


class _Tree:
    """The folders that hold files, at any depth, and the files directly in each."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.files: defaultdict[str, list[str]] = defaultdict(list)
        self.folders: defaultdict[str, set[str]] = defaultdict(set)
        for path in paths:
            *parents, file = path.split("/")
            self.files["/".join(parents)].append(file)
            for depth in range(len(parents)):
                self.folders["/".join(parents[:depth])].add("/".join(parents[: depth + 1]))

    def holds_classes(self, folder: str) -> bool:
        """Tells whether a folder has two class folders, or splits of which train has two."""
        inside = self.folders[folder]
        train = [path for path in inside if split_called(_last(path)) == "train"]
        if len(inside) > len(train) and all(split_called(_last(path)) for path in inside) and train:
            return len(self.folders[train[0]]) > 1
        return len(inside) > 1


def _explain(name: str, tree: _Tree, folder: str, is_folder: bool) -> str:
    place = f"{name}/{folder}" if folder else name
    inside, files = sorted(tree.folders[folder]), sorted(tree.files[folder])
    splits = [path for path in inside if split_called(_last(path))]
    if not inside and not files:
        return f"{place} is empty, but for what systems leave behind"
    if not inside:
        return _explain_files(place, files)
    if any(split_called(_last(path)) == "train" for path in splits) and len(splits) == len(inside):
        flat = [path for path in splits if not tree.folders[path]]
        if len(flat) == len(splits):
            example = f"{_last(flat[0])}/{min(tree.files[flat[0]])}"
            return (
                f"{place} holds {listed(_last(path) for path in flat)} with files directly inside,"
                f" such as {example}; one folder per class is needed in each, as"
                f" {_last(flat[0])}/cat/1.jpg (or data.manifest, a table that labels the files)"
            )
        wrappers = [path for split in splits for path in tree.folders[split]]
        if all(len(tree.folders[split]) == 1 for split in splits) and all(
            len(tree.folders[wrapper]) > 1 for wrapper in wrappers
        ):
            return (
                f"the classes in {place} are one folder deeper, as in {sorted(wrappers)[0]}/"
                f"{_last(min(tree.folders[wrappers[0]]))}; set data.class_name: leaf"
            )
        return ""
    if len(inside) > 1:
        return ""
    only = inside[0]
    if tree.holds_classes(only):
        held = listed((_last(path) for path in sorted(tree.folders[only])), most=5)
        if is_folder:
            return (
                f"{place} holds one folder, {_last(only)}, and that holds {held}; set data.path:"
                f" {name}/{only}"
            )
        return (
            f"{place} holds one folder, {only}, and that holds {held}; pack that folder itself, or set"
            " data.class_name: leaf"
        )
    return _explain(name, tree, only, is_folder) if tree.folders[only] else ""


def _explain_files(place: str, files: list[str]) -> str:
    archives = [file for file in files if PurePosixPath(file).suffix.lower() in _ARCHIVES]
    tables = [file for file in files if PurePosixPath(file).suffix.lower() in READERS]
    count = f"{len(files):,} {'file' if len(files) == 1 else 'files'} and no class folders"
    if archives and len(archives) == len(files):
        return f"{place} holds {listed(archives, most=3)} and no class folders; unpack what it holds"
    if tables:
        return (
            f"{place} holds {count}; if {tables[0]} says which file is of which class, set"
            f" data.manifest: {tables[0]}, or put each class into a folder of its own, as"
            f" {place}/cat/1.jpg"
        )
    return (
        f"{place} holds {count}, such as {files[0]}; put each class into a folder of its own, as"
        f" {place}/cat/1.jpg, {place}/dog/1.jpg (or data.manifest, a table that labels the files)"
    )


def _last(path: str) -> str:
    return path.rpartition("/")[2]
