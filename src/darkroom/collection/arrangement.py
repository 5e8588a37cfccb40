"""Explains why a collection has no classes, and which parameter or folder would help."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from darkroom.collection.entries import split_called
from darkroom.collection.rows import READERS
from darkroom.errors import counted, did_you_mean, listed

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".avif", ".tif", ".tiff")


def explain_path(path: str) -> str:
    """Return what is wrong with a ``data.path`` that is neither folder nor tar; empty if nothing is."""
    place = Path(path)
    if place.is_dir():
        return ""
    suffix = place.suffix.lower()
    if place.is_file():
        if suffix in READERS:
            return (
                f"{path} is a table; set data.path: {place.parent}, the folder of the images, and"
                f" data.manifest: {place.name}"
            )
        if suffix in _IMAGES:
            return f"{path} is a single file; set data.path to the folder of class folders"
        return ""
    if place.is_symlink():
        return f"{path} is a broken link"
    if place.exists():
        return f"{path} is neither a folder nor a file"
    if path.startswith("~"):
        return f"{path} does not exist; ~ is not expanded, so write {place.expanduser()}"
    parent = next((folder for folder in place.parents if folder.is_dir()), Path())
    missing = parent / place.relative_to(parent).parts[0]
    names = sorted(item.name for item in parent.iterdir() if not item.name.startswith("."))
    near = did_you_mean(missing.name, names)
    if near and missing != place:
        near = f" ({missing.name} does not exist{near})"
    elif near:
        near = f"; did you mean {parent / near.removeprefix('; did you mean ').strip('?')}?"
    return f"{path} does not exist{near}"


def explain_arrangement(name: str, paths: Iterable[str], is_folder: bool) -> str:
    """Explain what a collection with fewer than two class folders contains, and what would work.

    Args:
        name: name of the collection.
        paths: paths of all its files except system files, relative to it.
        is_folder: whether the collection is a folder, so that ``data.path`` can name one inside it.

    Returns:
        A sentence that begins with the content; empty if there is nothing to explain.
    """
    return _explain(name, _Tree(paths), "", is_folder)


class _Tree:
    """The folders that contain files, at any depth, and the files directly in each."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.files: defaultdict[str, list[str]] = defaultdict(list)
        self.folders: defaultdict[str, set[str]] = defaultdict(set)
        for path in paths:
            *parents, file = path.split("/")
            self.files["/".join(parents)].append(file)
            for depth in range(len(parents)):
                self.folders["/".join(parents[:depth])].add("/".join(parents[: depth + 1]))

    def holds_classes(self, folder: str) -> bool:
        """Return whether a folder has two class folders, or split folders of which train has two."""
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
        return f"{place} is empty, except for system files"
    if not inside:
        return _explain_files(place, files)
    if any(split_called(_last(path)) == "train" for path in splits) and len(splits) == len(inside):
        flat = [path for path in splits if not tree.folders[path]]
        if len(flat) == len(splits):
            example = f"{_last(flat[0])}/{min(tree.files[flat[0]])}"
            return (
                f"{place} contains {listed(_last(path) for path in flat)} with files directly inside,"
                f" for example {example}; one folder per class is needed in each, as"
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
                f"{place} contains one folder, {_last(only)}, which contains {held}; set data.path:"
                f" {name}/{only}"
            )
        return (
            f"{place} contains one folder, {only}, which contains {held}; pack that folder itself, or"
            " set data.class_name: leaf"
        )
    return _explain(name, tree, only, is_folder) if tree.folders[only] else ""


def _explain_files(place: str, files: list[str]) -> str:
    archives = [file for file in files if PurePosixPath(file).suffix.lower() in _ARCHIVES]
    tables = [file for file in files if PurePosixPath(file).suffix.lower() in READERS]
    count = f"{counted(len(files), 'file')} and no class folders"
    if archives and len(archives) == len(files):
        return f"{place} contains {listed(archives, most=3)} and no class folders; unpack the archives"
    if tables:
        return (
            f"{place} contains {count}; if {tables[0]} lists the class of each file, set data.manifest:"
            f" {tables[0]}, or else put each class into its own folder, as in {place}/cat/1.jpg"
        )
    return (
        f"{place} contains {count}, for example {files[0]}; put each class into its own folder, as in"
        f" {place}/cat/1.jpg, {place}/dog/1.jpg (or data.manifest, a table that labels the files)"
    )


def _last(path: str) -> str:
    return path.rpartition("/")[2]
