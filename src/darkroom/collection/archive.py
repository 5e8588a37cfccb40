"""Reads the files of a tar archive in place, and packs a folder into one."""

import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory

from darkroom.collection.entries import Entry
from darkroom.collection.folder import FolderFiles, as_text
from darkroom.collection.system_files import is_hidden
from darkroom.errors import UserError, brief, counted

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
"""The first bytes of compressed archives."""

_MAX_LINKS = 40  # followed in a row, as in Linux


class TarFiles:
    """The members of an uncompressed tar (ustar, GNU or pax), read without unpacking it.

    If one folder contains everything, it is removed from the paths, so that a tar of a folder equals
    the folder; unless there is an entry for ``.``, as written by ``tar -C folder .`` and ``pack``.
    Links to regular members are followed. Members outside of the archive's root are ``outside``;
    devices, pipes and sparse members are ``unreadable``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._file: FileIO | None = None

    def __reduce__(self) -> tuple[type["TarFiles"], tuple[Path]]:
        return TarFiles, (self.path,)  # open files cannot be pickled

    def entries(self) -> Iterator[Entry]:
        """Yield the members in the order of the archive, links last.

        A path that the archive contains twice (after ``tar -r``) is yielded twice.

        Raises:
            UserError: the archive is compressed, truncated or damaged, or is not a tar.
        """
        top = self._folder_that_holds_everything()
        links: dict[str, str] = {}
        for member in self._members():
            entry = _entry(member)
            if member.isdir():
                continue
            if entry.outcome is None and (member.islnk() or member.issym()) and entry.path not in links:
                links[entry.path] = _target(member, entry.path)
            else:
                yield replace(entry, path=entry.path.removeprefix(top))
        for entry in self._follow(links) if links else ():
            yield replace(entry, path=entry.path.removeprefix(top))

    def read(self, path: str, offset: int, size: int) -> bytes:
        if self._file is None:
            self._file = FileIO(self.path)
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) < size:
            raise OSError(f"{self.path} ends within {path}")
        return content

    def _folder_that_holds_everything(self) -> str:
        """Return the folder, such as ``"mine/"``, or an empty string if there is none."""
        top = ""
        for member in self._members():
            path = posixpath.normpath(member.name)
            if path == ".":
                return ""
            first = path.split("/")[0]
            if not (_is_outside(path) or is_hidden(first)):
                top = top or f"{first}/"
                if not f"{path}/".startswith(top) or (f"{path}/" == top and not member.isdir()):
                    return ""
        return top

    def _members(self) -> Iterator[tarfile.TarInfo]:
        """Yield all members, and check that the archive ends after the last."""
        size = self._check_magic()
        try:
            with tarfile.open(self.path, "r:", encoding="utf-8") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
                    if _is_plain(member) and not 0 <= member.size <= size - member.offset_data:
                        raise self._damaged(f"{as_text(member.name)} is cut off")
                    if tar.offset <= member.offset:
                        raise self._damaged(f"the header at byte {member.offset:,} points backwards")
                    yield member
                end = tar.offset
        # the exceptions that tarfile raises on invalid headers
        except (tarfile.TarError, ValueError, IndexError, KeyError, EOFError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None
        self._check_end(end)

    def _check_magic(self) -> int:
        """Check that the file is not compressed, and return its size in bytes."""
        try:
            with self.path.open("rb") as file:
                start = file.read(8)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None
        for magic, compression in _COMPRESSED.items():
            if start.startswith(magic):
                raise UserError(
                    f"{self.path} is compressed ({compression}), so single images cannot be read from"
                    " it; unpack it, and set data.path to the folder, or to a tar that"
                    " `darkroom pack FOLDER` writes"
                )
        return size

    def _check_end(self, end: int) -> None:
        """Check that only zeros follow, because tarfile takes any invalid header for the end."""
        with self.path.open("rb") as file:
            file.seek(end)
            chunk = file.read(2**20)
            if not chunk:
                raise self._damaged("its end is missing")
            while chunk:
                if chunk.strip(b"\0"):
                    raise self._damaged(f"byte {end:,} begins neither a header nor the end")
                chunk = file.read(2**20)

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self.path} is not a tar archive, or is damaged ({reason}); copy it or pack it again"
        )

    def _follow(self, links: dict[str, str]) -> Iterator[Entry]:
        """Yield the links with the offset and size of their targets."""
        targets = {path: _last(target, links) for path, target in links.items()}
        wanted = set(targets.values())
        members = (_entry(member) for member in self._members() if _is_plain(member))
        found = {entry.path: entry for entry in members if entry.path in wanted}
        for path, target in targets.items():
            if _is_outside(target):
                yield Entry(path, outcome="outside", reason="a link that leads out of the archive")
            elif entry := found.get(target):
                yield Entry(path, offset=entry.offset, size=entry.size)
            else:
                yield Entry(
                    path,
                    outcome="missing",
                    reason=f"a link to {target}, which the archive lacks",
                )


def pack(
    folder: Path,
    target: Path,
    expect: Callable[[int], None],
    advance: Callable[[int], None],
    *,
    overwrite: bool = False,
) -> int:
    """Write all files below ``folder``, except hidden ones, to a tar that ``TarFiles`` reads.

    The bytes depend only on paths and contents: members are sorted and have no times, owners or modes.
    The archive appears only when it is complete.

    Args:
        expect: called with the number of files.
        advance: called with the number of further files that are packed.
        overwrite: replace an existing ``target``.

    Returns:
        The number of files.

    Raises:
        UserError: the folder is missing or empty, a file cannot be packed, or ``target`` exists already
            or is inside the folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already; --force replaces it, --out names another file")
    if target.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{target} is inside the folder to pack; --out names another file")
    files = FolderFiles(folder)
    found = [entry for entry in files.entries() if entry.outcome != "hidden"]
    bad = [entry for entry in found if entry.outcome]
    if bad:
        raise UserError(
            f"{folder}: {counted(len(bad), 'file')} cannot be packed, such as "
            + ", ".join(f"{entry.path} ({entry.reason})" for entry in bad[:5])
            + "; remove or replace them"
        )
    if not found:
        raise UserError(f"{folder} contains no files")
    paths = sorted(entry.path for entry in found)
    expect(len(paths))
    try:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            part = Path(scratch, target.name)
            with tarfile.open(part, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
                root = tarfile.TarInfo("./")  # so that readers remove no folder from the paths
                root.type, root.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(root)
                for path in paths:
                    with (folder / path).open("rb") as file:
                        member = tarfile.TarInfo(path)
                        member.size = os.fstat(file.fileno()).st_size
                        tar.addfile(member, file)
                    tar.members.clear()  # type: ignore[attr-defined]
                    advance(1)
            part.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be packed ({brief(error)})") from None
    return len(paths)


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _entry(member: tarfile.TarInfo) -> Entry:
    path = posixpath.normpath(member.name)
    entry = Entry(as_text(path), offset=member.offset_data, size=member.size)
    if _is_outside(path):
        return replace(entry, outcome="outside", reason="a path that leads out of the archive")
    if is_hidden(path):
        return replace(entry, outcome="hidden")
    if entry.path != path:
        return replace(entry, outcome="unreadable", reason="its name is not UTF-8")
    if member.issparse():
        return replace(entry, outcome="unreadable", reason="stored sparse; pack it without --sparse")
    if not (member.isreg() or member.islnk() or member.issym()):
        return replace(entry, outcome="unreadable", reason="not a regular file")
    return entry


def _target(link: tarfile.TarInfo, path: str) -> str:
    """Return the target of a link at ``path``. Targets of hard links are relative to the root."""
    start = "" if link.islnk() else posixpath.dirname(path)
    return posixpath.normpath(posixpath.join(start, as_text(link.linkname)))


def _is_outside(normal_path: str) -> bool:
    return normal_path.startswith("/") or normal_path.split("/")[0] == ".."


def _last(path: str, links: dict[str, str]) -> str:
    """Follow links until the target is not a link."""
    for _ in range(_MAX_LINKS):
        if path not in links:
            break
        path = links[path]
    return path
