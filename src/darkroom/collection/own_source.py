"""Data sources from a Python file of the user: ``data.fetch: [file:own/fetch/flowers.py:flowers]``.

What is named is called with an empty folder, into which it writes the files of the set.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.errors import UserError
from darkroom.own_files import load
from darkroom.own_names import mistakes_of_source

if TYPE_CHECKING:
    from darkroom.collection.sources import Progress

OPTION = "data.fetch"

_filled: list[tuple[Path, Path]] = []
"""The folder that a function is filling, and that of the project; empty at all other times."""


def write_own_set(value: str, folder: Path, progress: "Progress") -> int:
    """Write the set of a function of the user into a new folder.

    Args:
        value: ``file:PATH:NAME``.

    Returns:
        The number of files.

    Raises:
        UserError: the function cannot be used, raises an exception, or writes what cannot be kept.
    """
    own = load(OPTION, value)
    arguments = own.arguments()
    for name, problem in mistakes_of_source(own.name, arguments):
        raise UserError(f"{name}: {problem}")
    passed = {"folder": folder.absolute(), "progress": progress}
    folder.mkdir(parents=True)
    project = os.getcwd()
    try:
        with _no_moves_into(folder):
            own.value(**{name: passed[name] for name in passed if name in arguments.taken})
    except (Exception, SystemExit) as error:
        raise UserError(f"{OPTION}: {own.place(error)}; what it wrote was discarded") from None
    finally:
        os.chdir(project)
    try:
        return _count_files(folder)
    except ValueError as error:
        raise UserError(f"{OPTION}: {own.name} {error}; what it wrote was discarded") from None


@contextmanager
def _no_moves_into(folder: Path) -> Iterator[None]:
    """Refuse to move files into ``folder``: they would be deleted with it if the function failed."""
    _watch_moves()
    _filled.append((folder.absolute(), Path.cwd()))
    try:
        yield
    finally:
        _filled.clear()


@cache
def _watch_moves() -> None:
    sys.addaudithook(_check_move)  # Python cannot remove one


def _check_move(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise PermissionError if a file is moved into the folder, unless it is a temporary one."""
    if not _filled or event not in ("os.rename", "shutil.move"):
        return
    folder, project = _filled[0]
    source, target = (Path(os.path.abspath(os.fsdecode(path))) for path in arguments[:2])
    is_temporary = source.is_relative_to(tempfile.gettempdir()) and not source.is_relative_to(project)
    if target.is_relative_to(folder) and not (is_temporary or source.is_relative_to(folder)):
        raise PermissionError(f"{source} would be moved into the set, and lost if this fails; copy it")


def _count_files(folder: Path) -> int:
    """Return the number of files of a set.

    Raises:
        ValueError: there are none, or something is not a file of its own, which DVC could not restore.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError("removes or replaces the folder that it is given")
    num_files = 0
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        for name in (*folders, *files):
            path = Path(parent, name)
            shown = repr(path.relative_to(folder).as_posix())
            if not name.isprintable():
                raise ValueError(f"writes {shown}, whose name is not printable text")
            if path.is_symlink():
                raise ValueError(f"writes {shown} as a link; copy what it leads to")
            if path.is_dir():
                continue
            if not path.is_file():
                raise ValueError(f"writes {shown}, which is neither a file nor a folder")
            if path.stat().st_nlink > 1:
                raise ValueError(f"writes {shown} as a hard link; copy the file")
            if not os.access(path, os.R_OK):
                raise ValueError(f"writes {shown}, which cannot be read")
            num_files += 1
    if not num_files:
        raise ValueError("writes no file into the folder that it is given")
    return num_files


def _refuse(error: OSError) -> None:
    raise ValueError(f"writes a folder that cannot be read ({error.strerror})")
