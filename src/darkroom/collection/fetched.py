"""Keeps the folder of public sets: ``NAME/``, and ``NAME.json`` with the SHA-256 of each file.

The digests distinguish a set from files that people put into the folder, which are never changed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from darkroom.errors import UserError, counted

Digests = dict[str, str]
"""SHA-256 of each file in hexadecimal digits, by its path in the set, with ``/``."""

DOWNLOADS = "downloads"
LIST_SUFFIX = ".json"


def bring_sets(
    names: Iterable[str], folder: Path, scratch: Path, fetch: Callable[[str, Path], object]
) -> dict[str, str]:
    """Make ``folder`` contain exactly the sets ``names``.

    Complete sets stay as they are. A set that is no longer wanted moves to ``scratch``, and returns from
    there when it is wanted again, so that it is downloaded only once.

    Args:
        scratch: a folder that can be deleted at any time.
        fetch: writes the set of a name to a new folder.

    Returns:
        What each set consists of; see ``contents``.

    Raises:
        UserError: ``folder`` contains files that were not fetched or were changed. Nothing is changed in
            this case. Also everything that ``fetch`` raises.
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
            shutil.rmtree(downloads, ignore_errors=True)  # from a process that was killed
            downloads.mkdir(parents=True)
            try:
                fetch(name, downloads / name)
                _write_list(downloads / name)
                _discard(scratch / name)
                _move(downloads / name, scratch / name)
            finally:
                shutil.rmtree(downloads, ignore_errors=True)
        _move(scratch / name, folder / name)
    return {name: contents(_read_list(folder / name)) for name in names}


def contents(files: Iterable[str]) -> str:
    """Return what a set with these files consists of: ``1,797 images`` or ``1 table``."""
    files = list(files)
    is_table = all(file.endswith(".csv") for file in files)
    return counted(len(files), "table" if is_table else "image")


def _is_complete(set_folder: Path) -> bool:
    """Return whether the set has all its files.

    Raises:
        UserError: the set has other files than ``fetch`` wrote.
    """
    listed, found = _read_list(set_folder), _digests(set_folder)
    foreign = sorted(path for path in found if found[path] != listed.get(path))
    if foreign or not listed:
        wrong = set_folder / foreign[0] if listed else set_folder if found else _list_of(set_folder)
        raise UserError(
            f"{wrong} was not written by fetch, or was changed since, and {set_folder.parent} is only"
            " for fetched sets; nothing was changed. If you need it, move it to another folder, such as"
            " data/mine, and set data.path; otherwise delete it. Then run `dvc repro` again"
        )
    return found == listed


def _digests(folder: Path) -> Digests:
    """Return the digest of each file below ``folder``; links to folders are not followed."""
    if not folder.is_dir() or folder.is_symlink():
        return {"": ""} if os.path.lexists(folder) else {}
    digests = {}
    for parent, folders, files in os.walk(folder):
        for name in (*files, *(name for name in folders if os.path.islink(os.path.join(parent, name)))):
            path = Path(parent, name)
            digests[path.relative_to(folder).as_posix()] = _digest(path)
    return digests


def _digest(path: Path) -> str:
    if not path.is_file():  # reading a pipe would block
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _list_of(set_folder: Path) -> Path:
    return set_folder.with_name(f"{set_folder.name}{LIST_SUFFIX}")


def _read_list(set_folder: Path) -> Digests:
    """Return the digests stored beside the set; empty if there are none or the file is invalid."""
    path = _list_of(set_folder)
    try:
        written = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(written, dict) or written.get("set") != set_folder.name:
        return {}
    listed = written.get("sha256")
    return listed if isinstance(listed, dict) else {}


def _write_list(set_folder: Path) -> None:
    text = json.dumps({"set": set_folder.name, "sha256": _digests(set_folder)}, indent=0, sort_keys=True)
    _list_of(set_folder).write_text(f"{text}\n", encoding="utf-8")


def _move(set_folder: Path, target: Path) -> None:
    """Move a set. Its list is copied first and removed last, so that the set always has one."""
    shutil.copy(_list_of(set_folder), _list_of(target))
    if set_folder.exists():
        shutil.move(set_folder, target)
    _list_of(set_folder).unlink()


def _discard(set_folder: Path) -> None:
    """Delete a set that was verified, or is in scratch."""
    if set_folder.exists():
        shutil.rmtree(set_folder)
    _list_of(set_folder).unlink(missing_ok=True)
