"""DVC's hash of a file or a folder, computed without importing DVC."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from darkroom.digests import CHUNK_BYTES

IGNORED_FOLDERS = (".dvc", ".git", ".hg")
"""Folders that DVC always ignores, whatever ``.dvcignore`` says."""


def dvc_md5(path: Path) -> str:
    """Return the hash that DVC records in dvc.lock: 32 hex digits, followed by ``.dir`` for a folder.

    Raises:
        OSError: the path does not exist, or something in it cannot be read.
    """
    return listing_md5(folder_listing(path)) if path.is_dir() else file_md5(path)


def file_md5(path: Path, advance: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Return the MD5 of a file's bytes: 32 hex digits.

    Args:
        advance: called with the number of bytes read since the last call.

    Raises:
        OSError: the file cannot be read.
    """
    md5 = _md5()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while num_bytes := file.readinto(buffer):
            md5.update(buffer[:num_bytes])
            advance(num_bytes)
    return md5.hexdigest()


def bytes_md5(content: bytes) -> str:
    """Return the MD5 of ``content``: 32 hex digits."""
    return _md5(content).hexdigest()


def folder_listing(folder: Path) -> dict[str, str]:
    """Return the MD5 of each of ``folder_files`` by its path in the folder, with ``/`` as separator.

    Raises:
        OSError: something cannot be read.
    """
    return {path.relative_to(folder).as_posix(): file_md5(path) for path in folder_files(folder)}


def folder_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that DVC tracks, at any depth.

    Names that match a plain line of ``.dvcignore`` are excluded; patterns with a ``/`` or a ``!`` are
    not supported.

    Raises:
        OSError: a folder cannot be read.
    """
    ignored = _ignored_names(folder)

    def is_kept(name: str) -> bool:
        return not any(fnmatchcase(name, pattern) for pattern in ignored)

    for root, folders, files in os.walk(folder, onerror=_raise):  # like DVC, not into linked folders
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS and is_kept(name)]
        yield from (Path(root, name) for name in files if name != ".git" and is_kept(name))


def listing_md5(listing: Mapping[str, str]) -> str:
    """Return the hash of a folder with these files: 32 hex digits and ``.dir``."""
    entries = [{"md5": listing[path], "relpath": path} for path in sorted(listing)]
    return bytes_md5(json.dumps(entries).encode()) + ".dir"


def _md5(content: bytes = b"") -> "hashlib._Hash":
    # DVC uses MD5 even if the system forbids it for security, as FIPS does
    return hashlib.md5(content, usedforsecurity=False)


def _ignored_names(folder: Path) -> list[str]:
    """Return the patterns of ``.dvcignore`` from the folder up to DVC's root."""
    patterns = []
    for parent in folder.absolute().parents:
        file = parent / ".dvcignore"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        names = [line.strip().removesuffix("/") for line in lines]
        patterns += [name for name in names if name and name[0] not in "#!" and "/" not in name]
        if (parent / ".dvc").is_dir():
            break
    return patterns


def _raise(error: OSError) -> None:
    raise error
