"""SHA-256 digests of files and JSON documents, and their verification before use."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from darkroom.errors import UserError

SEAL = "content_sha256"
"""The key of a JSON document for the digest of all its other values."""

CHUNK_BYTES = 2**18

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class FileDigest:
    """Digest and size of a file.

    Raises:
        ValueError: the digest is not 64 hexadecimal digits, or the size is negative.
    """

    # for pydantic, which validates it as a part of other documents
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    sha256: str
    size: int
    """In bytes."""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256) or self.size < 0:
            raise ValueError("not a SHA-256 and a size in bytes")

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the digest of a file.

        Raises:
            OSError: the file cannot be read.
        """
        return cls(sha256=file_sha256(path), size=path.stat().st_size)


class Mismatch(Exception):
    """A file differs from the recorded one; the message says how."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, in bounded memory.

    Raises:
        OSError: the file cannot be read.
    """
    sha256 = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while num_bytes := file.readinto(buffer):
            sha256.update(buffer[:num_bytes])
    return sha256.hexdigest()


def check_file(path: Path, recorded: FileDigest) -> None:
    """Compare a file with its recorded size and digest.

    Raises:
        Mismatch: the file is missing, cannot be read, or has other bytes.
    """
    try:
        if not path.is_file():
            raise Mismatch("the file is missing")
        size = path.stat().st_size
        if size != recorded.size:
            raise Mismatch(f"the file has {size:,} bytes instead of {recorded.size:,}")
        if file_sha256(path) != recorded.sha256:
            raise Mismatch("the bytes differ from the recorded ones (another SHA-256)")
    except OSError as error:
        raise Mismatch(f"the file cannot be read ({error.strerror or error})") from None


def check_files(folder: Path, recorded: Mapping[str, FileDigest], source: Path, remedy: str) -> None:
    """Compare the files of a folder with their recorded digests, several at a time.

    Args:
        recorded: the digests by file name.
        source: the file that records the digests, for messages.
        remedy: what to do, as the end of a message.

    Raises:
        UserError: a file is missing, unreadable or different; names the first.
    """

    def problem(item: tuple[str, FileDigest]) -> str:
        try:
            check_file(folder / item[0], item[1])
        except Mismatch as error:
            return f"{folder / item[0]}: {error}; {source} records it; {remedy}"
        return ""

    with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter's lock
        for message in pool.map(problem, sorted(recorded.items())):
            if message:
                raise UserError(message)


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a JSON document with their digest under ``content_sha256``."""
    return {**values, SEAL: _content_sha256(values)}


def unseal(values: object) -> dict[str, Any]:
    """Return the values of a JSON document without the digest, after verifying it.

    Raises:
        Mismatch: the document has no digest, or that of other values.
    """
    if not isinstance(values, dict):
        raise Mismatch("not a JSON object")
    content = {name: value for name, value in values.items() if name != SEAL}
    if SEAL not in values:
        raise Mismatch(f"no {SEAL}")
    if values[SEAL] != _content_sha256(content):
        raise Mismatch(f"{SEAL} belongs to other values")
    return content


def _content_sha256(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_files(files: Mapping[str, FileDigest]) -> str:
    """Return the SHA-256 over names and digests of files."""
    lines = [f"{name} {digest.sha256}\n" for name, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over names and digests of the files in a folder, but not in folders within."""
    return digest_of_files(
        {path.name: FileDigest.of(path) for path in folder.glob("*") if path.is_file()}
    )


class HashingFile(io.RawIOBase):
    """Writes all bytes to ``file`` and hashes them."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._size = 0
        self.error: OSError | None = None
        """Why the last write failed; libraries may raise another exception instead."""

    @property
    def digest(self) -> FileDigest:
        """Digest of everything written so far."""
        return FileDigest(sha256=self._sha256.hexdigest(), size=self._size)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        view = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view):
                written += self._file.write(view[written:]) or 0
        except OSError as error:
            self.error = error
            raise
        self._size += written
        return written


def code_digest(rooms: Iterable[str]) -> str:
    """Return the SHA-256 over the code in some rooms, in hexadecimal digits."""
    total = hashlib.sha256()
    package = Path(__file__).parent
    for room in rooms:
        for file in sorted((package / room).rglob("*.py")):
            total.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return total.hexdigest()
