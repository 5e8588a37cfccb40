"""Lists and reads the files below a folder."""

import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from darkroom.collection.entries import Entry
from darkroom.collection.system_files import is_hidden
from darkroom.errors import UserError

_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}\Z")

LINKED_FOLDER = "a link to a folder outside of the folder"
"""The reason of links to folders that are ``outside``."""


class FolderFiles:
    """The files below ``root``, at any depth.

    Links are followed if their target is inside ``root`` or a file in a DVC cache (to which DVC links
    if ``cache.type`` is ``symlink``). Any other link is ``outside`` and is never opened. Links below
    hidden folders are not followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def entries(self) -> Iterator[Entry]:
        """Yield the files in the order of the disk.

        Raises:
            UserError: a folder cannot be listed, or a linked folder contains the link itself.
        """
        real_root = os.path.realpath(self.root)
        # (path below root, real path, real folders of the links that lead there)
        todo: list[tuple[str, str, tuple[str, ...]]] = [("", real_root, ())]
        while todo:
            folder, real_folder, came_by = todo.pop()
            for item in self._list(real_folder, folder):
                path = folder + item.name
                if item.is_dir(follow_symlinks=False):
                    todo.append((f"{path}/", item.path, came_by))
                elif not item.is_symlink() or is_hidden(path):
                    yield _entry(path, item.path)
                elif not os.path.lexists(target := os.path.realpath(item.path)) or os.path.islink(
                    target
                ):
                    yield Entry(as_text(path), outcome="missing", reason="a broken link")
                elif _is_inside(target, real_root) and os.path.isdir(target):
                    links = (*came_by, real_folder)
                    if any(_is_inside(link, target) for link in links):
                        raise UserError(
                            f"{as_text(str(self.root / path))}: this link leads to a folder that"
                            " contains it; remove it"
                        )
                    todo.append((f"{path}/", target, links))
                elif _is_inside(target, real_root) or _DVC_CACHE.search(target):
                    yield _entry(path, target)
                else:
                    reason = LINKED_FOLDER if os.path.isdir(target) else "a link out of the folder"
                    yield Entry(as_text(path), outcome="outside", reason=reason)

    def read(self, path: str, offset: int, size: int) -> bytes:
        with open(f"{self.name}/{path}", "rb", buffering=0) as file:
            return file.read(size)

    def _list(self, real_folder: str, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(real_folder) as items:
                yield from items
        except OSError as error:
            raise UserError(
                f"{as_text(str(self.root / folder))}: this folder cannot be listed ({error.strerror})"
            ) from None


def other_files(folder: Path, used: Collection[str], reason: str) -> Iterator[Entry]:
    """Yield the files of a folder that are not in ``used``, as ``unlisted`` or ``hidden``."""
    for entry in FolderFiles(folder).entries():
        if entry.outcome == "hidden":
            yield entry
        elif entry.path not in used:
            yield replace(entry, outcome="unlisted", reason=reason)


def read_part(file: Path, path: str, offset: int, size: int) -> bytes:
    """Return the bytes of ``path``, which are stored in ``file``.

    Raises:
        OSError: the file cannot be read or ends too early.
    """
    with file.open("rb") as opened:
        opened.seek(offset)
        content = opened.read(size)
    if len(content) < size:
        raise OSError(f"{file} ends within {path}")
    return content


def as_text(path: str) -> str:
    r"""Return a path with bytes that are not UTF-8 written as ``\xff``, so that it can be stored."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _entry(path: str, real_path: str) -> Entry:
    """Return the entry of a path that is not a folder; ``real_path`` is the target of links."""
    text = as_text(path)
    try:
        status = os.lstat(real_path)
    except OSError as error:
        return Entry(text, outcome="missing", reason=str(error.strerror))
    if is_hidden(path):
        return Entry(text, outcome="hidden", size=status.st_size)
    if not stat.S_ISREG(status.st_mode):
        return Entry(text, outcome="unreadable", reason="not a regular file")  # a pipe would block
    if text != path:
        return Entry(text, outcome="unreadable", reason="its name is not UTF-8", size=status.st_size)
    return Entry(text, size=status.st_size)
