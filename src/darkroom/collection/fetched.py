"""The folder of public sets: ``NAME/`` and ``NAME.json``, the SHA-256 of each of the set's files.

The list of files tells a set from what people put into the folder, which is never replaced or deleted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from darkroom.errors import UserError

Digests = dict[str, str]
"""Path in the set, with ``/`` -> SHA-256 of the file, in hexadecimal digits."""

DOWNLOADS = "downloads"
LIST_SUFFIX = ".json"


def bring_sets(
    names: Iterable[str], folder: Path, scratch: Path, fetch: Callable[[str, Path], object]
) -> dict[str, int]:
    """Makes ``folder`` hold the sets called ``names`` and no others.

    A set that is complete stays as it is. One that is no longer wanted moves to ``scratch`` and comes
    back from there, so that it is downloaded once.

    Args:
        scratch: a folder of ours on which nothing depends.
        fetch: writes the set of a name as a new folder.

    Returns:
        The number of files of each set.

    Raises:
        UserError: ``folder`` holds something that was not fetched, or was changed since. Nothing is
            changed then. Also whatever ``fetch`` raises.
    """
    names = list(names)
    folder.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    present = {
        path.name if path.is_dir() else path.name.removesuffix(LIST_SUFFIX) for path in folder.iterdir()
    }
    complete = {name for name in sorted(present) if _is_complete(folder / name)}
    for name in sorted(present - set(names)):
        if name in complete:
            _discard(scratch / name)
            _move(folder / name, scratch / name)
        else:
            _discard(folder / name)
    downloads = scratch / DOWNLOADS
    for name in names:
        if name in complete:
            continue
        _discard(folder / name)
        if not (listed := _read_list(scratch / name)) or _digests(scratch / name) != listed:
            shutil.rmtree(downloads, ignore_errors=True)  # of a process that was killed
            downloads.mkdir(parents=True)
            try:
                fetch(name, downloads / name)
                _write_list(downloads / name)
                _discard(scratch / name)
                _move(downloads / name, scratch / name)
            finally:
                shutil.rmtree(downloads, ignore_errors=True)
        _move(scratch / name, folder / name)
    return {name: len(_read_list(folder / name)) for name in names}


def _is_complete(of_set: Path) -> bool:
    """Tells whether the set has all its files.

    Raises:
        UserError: it has others than ``fetch`` wrote.
    """
    listed, found = _read_list(of_set), _digests(of_set)
    foreign = sorted(path for path in found if found[path] != listed.get(path))
    if foreign or not listed:
        wrong = of_set / foreign[0] if listed else of_set if found else _list_of(of_set)
        raise UserError(
            f"{wrong} is not as fetch wrote it, and {of_set.parent} is for what fetch writes; nothing"
            f" was changed. If you need it, move it to a folder of your own, such as data/mine, and set"
            " data.path; otherwise delete it. Then run `dvc repro` again"
        )
    return found == listed


def _digests(folder: Path) -> Digests:
    """Returns the digest of each file below ``folder``; links to folders are not followed."""
    if not folder.is_dir() or folder.is_symlink():
        return {"": ""} if os.path.lexists(folder) else {}
    digests = {}
    for parent, folders, files in os.walk(folder):
        for name in (*files, *(name for name in folders if os.path.islink(os.path.join(parent, name)))):
            path = Path(parent, name)
            digests[path.relative_to(folder).as_posix()] = _digest(path)
    return digests


def _digest(path: Path) -> str:
    if not path.is_file():  # a pipe would block
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _list_of(of_set: Path) -> Path:
    return of_set.with_name(f"{of_set.name}{LIST_SUFFIX}")


def _read_list(of_set: Path) -> Digests:
    """Returns the list beside the set; an empty one if there is none, or it is something else."""
    path = _list_of(of_set)
    try:
        written = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(written, dict) or written.get("set") != of_set.name:
        return {}
    listed = written.get("sha256")
    return listed if isinstance(listed, dict) else {}


def _write_list(of_set: Path) -> None:
    text = json.dumps({"set": of_set.name, "sha256": _digests(of_set)}, indent=0, sort_keys=True)
    _list_of(of_set).write_text(f"{text}\n", encoding="utf-8")


def _move(of_set: Path, target: Path) -> None:
    """Moves a set; its list comes first and goes last, so that it is ours at every moment."""
    shutil.copy(_list_of(of_set), _list_of(target))
    if of_set.exists():
        shutil.move(of_set, target)
    _list_of(of_set).unlink()


def _discard(of_set: Path) -> None:
    """Deletes a set that was found to be ours, or is in scratch."""
    if of_set.exists():
        shutil.rmtree(of_set)
    _list_of(of_set).unlink(missing_ok=True)
