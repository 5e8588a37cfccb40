"""Files in object stores and on web servers, named by addresses such as ``s3://bucket/folder/1.jpg``.

pyarrow speaks to S3 and Google Cloud Storage, fsspec to all others, with a package for each. Both are
imported when the first address is used.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn
from urllib.parse import unquote

from darkroom.decoding.reading import MAX_FILE_BYTES, check_size, read_image_file
from darkroom.errors import UserError, brief
from darkroom.prediction.stores import WEB, file_system, is_denied, upload_whole

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)


class UnreachableError(UserError):
    """A store does not answer, or no longer accepts the credentials; what is done is kept."""


class TooLargeError(Exception):
    """A file has more bytes than are read."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(f"{num_bytes:,} bytes")
        self.num_bytes = num_bytes


@dataclass(frozen=True)
class RemoteFile:
    """A file or a folder in an object store, or a file of a web server.

    As text, it has no query, which may hold a signature; ``os.fspath`` has all of it.
    """

    scheme: str
    path: str
    """What follows ``://``: bucket and key, without a slash at the end, or host, path and query."""

    def __fspath__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path.partition('?')[0] if self.scheme in WEB else self.path}"

    def __truediv__(self, name: str) -> "RemoteFile":
        return RemoteFile(self.scheme, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return f"{self}".rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """Bucket or host, and the names of folders and file."""
        return tuple(self.path.split("/"))

    def relative_to(self, top: object) -> PurePosixPath:
        """Return the path below a folder; raise ValueError if it is not below."""
        if not isinstance(top, RemoteFile) or top.scheme != self.scheme:
            raise ValueError(f"{self} is not below {top}")
        return PurePosixPath(self.path).relative_to(top.path)

    def is_symlink(self) -> bool:
        """Return False, since stores have no links."""
        return False

    def is_dir(self) -> bool:
        """Return whether it is a folder: a bucket, or what the names of objects begin with."""
        return self._kind() == "directory"

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self._kind() == "file"

    def exists(self) -> bool:
        """Return whether there is such a file or folder; of a web server, True without asking."""
        return self._kind() is not None

    def scan(self) -> tuple[list[str], dict[str, bool]]:
        """Return the names of the files in a folder, and of the folders, none of which is a link.

        Raises:
            FileNotFoundError: there is no such folder.
            UserError: the folder cannot be listed.
        """
        try:
            entries = file_system(self.scheme).ls(self.path, detail=True)
        except FileNotFoundError:
            raise
        except Exception as error:  # the packages' exceptions share no other base class
            _stop(self, "cannot be listed", error)
        files, folders = [], {}
        for entry in entries:
            parent, _, name = entry["name"].strip("/").rpartition("/")
            if parent != self.path.strip("/"):  # pyarrow lists the folder itself if a name is empty
                continue
            if entry["type"] == "directory":
                folders[name] = False
            else:
                files.append(name)
        return files, folders

    def read(self, most: int) -> bytes:
        """Return the content.

        Args:
            most: maximum number of bytes.

        Raises:
            TooLargeError: there are more.
            OSError: there is no such file, or it alone may not be read.
            UnreachableError: the store does not answer, or the content did not arrive completely.
        """
        try:
            content = self._read(most)
        except FileNotFoundError:
            raise FileNotFoundError(2, "there is no such file any more") from None
        except (IsADirectoryError, TooLargeError):
            raise
        except Exception as error:
            if is_denied(error) and self._others_are_allowed():
                raise PermissionError(13, "access is denied") from None
            _stop(self, "cannot be read", error)
        _READABLE[self._root] = self
        return content

    def open(self) -> BinaryIO:
        """Open it for reading; raise UserError if that is not possible."""
        try:
            opened: BinaryIO = file_system(self.scheme).open(self.path, "rb")
        except Exception as error:
            _stop(self, "cannot be read", error)
        return opened

    def upload(self, file: Path) -> None:
        """Replace it by a file of this machine, completely or not at all.

        Raises:
            UserError: it cannot be written.
        """
        try:
            upload_whole(file, file_system(self.scheme), self.path)
        except Exception as error:
            _stop(self, "cannot be written", error)

    @property
    def _root(self) -> tuple[str, str]:
        return self.scheme, self.parts[0]

    def _read(self, most: int) -> bytes:
        system = file_system(self.scheme)
        if self.scheme in WEB:  # one request, without asking for the size, whose errors fsspec hides
            opened = system.open(os.fspath(self), "rb", block_size=0, size=1)
        else:
            opened = system.open(self.path, "rb")
        with opened as file:
            size = file.size() if callable(file.size) else file.size
            if size is not None and size > most:
                raise TooLargeError(size)
            parts, count = [], 0
            while count <= most and (part := file.read(min(most + 1 - count, 2**22))):
                parts.append(part)
                count += len(part)
        if count > most:
            raise TooLargeError(count)
        if size is not None and count != size:
            raise OSError(f"{count:,} of {size:,} bytes arrived")
        return b"".join(parts)

    def _others_are_allowed(self) -> bool:
        """Return whether a file of the same bucket that was read before can still be read."""
        if (known := _READABLE.get(self._root)) is None:
            return False
        try:
            known._read(0)
        except TooLargeError:
            return True
        except Exception:
            return False
        return True

    def _kind(self) -> str | None:
        if self.scheme in WEB:
            return "file"
        try:
            kind = file_system(self.scheme).info(self.path)["type"]
        except FileNotFoundError:
            return None
        except Exception as error:
            _stop(self, "cannot be looked up", error)
        return "directory" if kind == "directory" else "file"


_READABLE: dict[tuple[str, str], RemoteFile] = {}
"""A file of each bucket that was read, to tell a denied file from credentials that have expired."""


InputFile = Path | RemoteFile
"""A file or folder on this machine, or at an address."""


def is_address(name: str) -> bool:
    """Return whether a name is an address, such as ``s3://bucket/key``, and not a file's that exists."""
    return _ADDRESS.fullmatch(name) is not None and not os.path.lexists(name)


def file_of(name: str) -> InputFile:
    """Return the file that a path or an address names.

    Raises:
        UserError: the address has a login, or no bucket or host.
    """
    if not is_address(name):
        return Path(name)
    scheme, _, path = name.partition("://")
    scheme, (place, _, rest) = scheme.lower(), path.partition("/")
    if scheme in ("file", "local"):
        if place not in ("", "localhost"):
            raise UserError(f"{name}: not on this machine; {scheme}:/// is followed by a whole path")
        plain = Path(f"/{rest}")
        return plain if os.path.lexists(plain) else Path(f"/{unquote(rest)}")
    if "@" in place:
        raise UserError(
            f"{scheme}://...@{place.rpartition('@')[2]}: has a login, which others can see; put the "
            "credentials into the environment or the store's own configuration"
        )
    if not place:
        raise UserError(f"{scheme}://: names nothing; add a bucket or a host")
    return RemoteFile(scheme, path if scheme in WEB else path.rstrip("/"))


def read_input(file: InputFile) -> bytes:
    """Return the bytes of an image file.

    Raises:
        BadImage: it is not a regular file, or too large.
        OSError: it cannot be read.
        UnreachableError: as ``RemoteFile.read``.
    """
    if isinstance(file, Path):
        return read_image_file(file)
    try:
        return file.read(MAX_FILE_BYTES)
    except TooLargeError as error:
        check_size(error.num_bytes)
        raise  # not reached: the size is above the limit


def _stop(file: RemoteFile, what: str, error: Exception) -> NoReturn:
    if isinstance(error, UserError):
        raise error
    status = getattr(error, "status", None)  # of HTTP; the text would repeat the address
    reason = f"HTTP {status}" if status else brief(error, 600)
    advice = (
        "check the credentials and what they allow"
        if is_denied(error)
        else "check the address and the connection"
    )
    raise UnreachableError(f"{file}: {what} ({reason}); {advice}, and run the same command again")
