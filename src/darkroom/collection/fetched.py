"""Keeps the folder of fetched sets: ``NAME/``, and ``NAME.json`` with the SHA-256 of each file.

The digests distinguish a set from files that people put into the folder, which are never changed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from darkroom.errors import UserError, counted
from darkroom.own_names import OwnName, is_own_file, set_name

Digests = dict[str, str]
"""SHA-256 of each file in hexadecimal digits, by its path in the set, with ``/``."""

Source = dict[str, str] | None
"""``file`` and ``sha256`` of the user's file that writes a set; None for public sets."""

DOWNLOADS = ".downloads"
LIST_SUFFIX = ".json"


def bring_sets(
    items: Iterable[str], folder: Path, scratch: Path, fetch: Callable[[str, Path], object]
) -> dict[str, str]:
    """Make ``folder`` contain exactly the sets of ``data.fetch``.

    Complete sets stay as they are, unless the user's file that wrote one has changed: then the set is
    written again, and replaced once that is done. A set that is no longer wanted moves to ``scratch``,
    and returns from there when it is wanted again, so that it is downloaded only once.

    Args:
        items: names of public sets, or of functions in files of the user.
        scratch: a folder that can be deleted at any time.
        fetch: writes the set of an item to a new folder.

    Returns:
        What each set consists of, by its name; see ``contents``.

    Raises:
        UserError: ``folder`` contains files that were not fetched or were changed. Nothing is changed in
            this case. Also everything that ``fetch`` raises.
    """
    wanted = {set_name(item): item for item in items}
    sources = {name: _source(item) for name, item in wanted.items()}
    folder.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    present = {
        path.name if path.is_dir() else path.name.removesuffix(LIST_SUFFIX) for path in folder.iterdir()
    }
    complete = {name for name in sorted(present) if _is_complete(folder / name)}
    for name in sorted(present - set(wanted)):
        if name in complete:
            _discard(scratch / name)
            _move(folder / name, scratch / name)
        else:
            _discard(folder / name)
    downloads = scratch / DOWNLOADS
    for name, source in sources.items():
        if name in complete and _read_source(folder / name) == source:
            continue
        listed = _read_list(scratch / name) if _read_source(scratch / name) == source else {}
        if not listed or _digests(scratch / name) != listed:
            shutil.rmtree(downloads, ignore_errors=True)  # from a process that was killed
            downloads.mkdir(parents=True)
            try:
                fetch(wanted[name], downloads / name)
                _write_list(downloads / name, source)
                _discard(scratch / name)
                _move(downloads / name, scratch / name)
            finally:
                shutil.rmtree(downloads, ignore_errors=True)
        _discard(folder / name)
        _move(scratch / name, folder / name)
    return {name: contents(_read_list(folder / name)) for name in wanted}


def contents(files: Iterable[str]) -> str:
    """Return what a set with these files consists of: ``1,797 images``, ``1 table`` or ``12 files``."""
    files = list(files)
    num_tables = sum(file.endswith(".csv") for file in files)
    kinds = {0: "image", len(files): "table"}
    return counted(len(files), kinds.get(num_tables, "file"))


def _source(item: str) -> Source:
    """Return what an item of ``data.fetch`` is written by.

    Raises:
        UserError: the user's file cannot be read.
    """
    if not is_own_file(item):
        return None
    own = OwnName.parse(item)
    return {"file": own.path.as_posix(), "sha256": own.sha256()}


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
    listed = _read_record(set_folder).get("sha256")
    return listed if isinstance(listed, dict) else {}


def _read_source(set_folder: Path) -> object:
    return _read_record(set_folder).get("source")


def _read_record(set_folder: Path) -> dict[str, Any]:
    path = _list_of(set_folder)
    try:
        written = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(written, dict) or written.get("set") != set_folder.name:
        return {}
    return written


def _write_list(set_folder: Path, source: Source) -> None:
    record = {"set": set_folder.name, "sha256": _digests(set_folder)}
    if source is not None:
        record["source"] = source
    text = json.dumps(record, indent=0, sort_keys=True)
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
