"""The files in a tar archive, read in place; and packing a folder into one."""

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
from darkroom.errors import UserError, brief

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
"""What a compressed archive starts with."""

_MAX_LINKS = 40  # in a row, as in Linux


class TarFiles:
    """The members of an uncompressed tar (ustar, GNU or pax), which is never unpacked.

    A folder that holds everything is left out of the paths, so that a tar of a folder is as good as
    the folder; unless there is an entry for ``.``, as ``tar -C folder .`` and ``pack`` write it.
    Links count where they lead to a regular member. Members that climb out are ``outside``; devices,
    pipes and sparse members are ``unreadable``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._file: FileIO | None = None

    def __reduce__(self) -> tuple[type["TarFiles"], tuple[Path]]:
        return TarFiles, (self.path,)  # an open file cannot go to another process

    def entries(self) -> Iterator[Entry]:
        """Yields the members in the order of the archive, links last.

        A path comes twice if the archive holds it twice (as ``tar -r`` makes them).

        Raises:
            UserError: the archive is compressed, truncated, damaged, or no tar.
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
        """Returns ``"mine/"``, say, or an empty string if there is no such folder."""
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
        """Yields all members, and makes sure that there are no more."""
        size = self._check_magic()
        try:
            with tarfile.open(self.path, "r:", encoding="utf-8") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                    if _is_plain(member) and not 0 <= member.size <= size - member.offset_data:
                        raise self._damaged(f"{as_text(member.name)} is cut off")
                    if tar.offset <= member.offset:
                        raise self._damaged(f"the header at byte {member.offset:,} leads back")
                    yield member
                end = tar.offset
        # what tarfile raises on headers that are none
        except (tarfile.TarError, ValueError, IndexError, KeyError, EOFError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None
        self._check_end(end)

    def _check_magic(self) -> int:
        """Returns the size in bytes."""
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
                    " it; unpack it into a folder and name that folder, or a tar that"
                    " `darkroom pack FOLDER` writes of it"
                )
        return size

    def _check_end(self, end: int) -> None:
        """tarfile takes any block that is no header for the end; the end is nothing but zeros."""
        with self.path.open("rb") as file:
            file.seek(end)
            chunk = file.read(2**20)
            if not chunk:
                raise self._damaged("its end is missing")
            while chunk:
                if chunk.strip(b"\0"):
                    raise self._damaged(f"there is no header at byte {end:,}, nor the end")
                chunk = file.read(2**20)

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self.path} is no tar archive, or truncated or damaged ({reason}); copy it or pack it anew"
        )

    def _follow(self, links: dict[str, str]) -> Iterator[Entry]:
        """Yields the links with the offset and size of what they lead to."""
        targets = {path: _last(target, links) for path, target in links.items()}
        wanted = set(targets.values())
        members = (_entry(member) for member in self._members() if _is_plain(member))
        found = {entry.path: entry for entry in members if entry.path in wanted}
        for path, target in targets.items():
            if _is_outside(target):
                yield Entry(path, outcome="outside", reason="a link out of the archive")
            elif entry := found.get(target):
                yield Entry(path, offset=entry.offset, size=entry.size)
            else:
                yield Entry(
                    path, outcome="missing", reason=f"a link to {target}, no file in the archive"
                )


def pack(
    folder: Path,
    target: Path,
    expect: Callable[[int], None],
    advance: Callable[[int], None],
    *,
    overwrite: bool = False,
) -> int:
    """Writes all files below ``folder``, but hidden ones, into a tar that ``TarFiles`` reads.

    The bytes follow from paths and contents alone: sorted, without times, owners and modes. The
    archive appears once it is whole.

    Args:
        expect: told the number of files.
        advance: told how many more are packed.

    Returns:
        The number of files.

    Raises:
        UserError: there is no such folder or nothing in it; a file cannot be packed; ``target`` is
            there already, or lies in the folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; --force replaces it, --out names another file")
    if target.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{target} would lie in the folder that it packs; --out names another file")
    files = FolderFiles(folder)
    found = [entry for entry in files.entries() if entry.outcome != "hidden"]
    bad = [entry for entry in found if entry.outcome]
    if bad:
        raise UserError(
            f"{folder}: {len(bad):,} files cannot be packed, such as "
            + ", ".join(f"{entry.path} ({entry.reason})" for entry in bad[:5])
            + "; remove or replace them"
        )
    if not found:
        raise UserError(f"{folder} holds no files")
    paths = sorted(entry.path for entry in found)
    expect(len(paths))
    try:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            part = Path(scratch, target.name)
            with tarfile.open(part, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
                root = tarfile.TarInfo("./")  # says that nothing is to be left out of the paths
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
        return replace(entry, outcome="outside", reason="a path out of the archive")
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
    """Returns where a link at ``path`` leads; a hard link's target starts at the archive's root."""
    start = "" if link.islnk() else posixpath.dirname(path)
    return posixpath.normpath(posixpath.join(start, as_text(link.linkname)))


def _is_outside(normal_path: str) -> bool:
    return normal_path.startswith("/") or normal_path.split("/")[0] == ".."


def _last(path: str, links: dict[str, str]) -> str:
    """Follows links to what is none."""
    for _ in range(_MAX_LINKS):
        if path not in links:
            break
        path = links[path]
    return path
