"""The digest of a model file inside the file.

It is the SHA-256 of the whole file with its own 64 digits replaced by zeros, so it covers the header,
the description and the weights. The description holds it as ``sha256``.
"""

import hashlib
import re
from pathlib import Path

from darkroom.digests import CHUNK_BYTES
from darkroom.errors import UserError

KEY = "sha256"
"""Key of the digest in the description."""

BLANK = "0" * 64
"""Placeholder for the digest in the description."""

MAX_HEADER_BYTES = 100_000_000
"""safetensors rejects longer headers."""

_LENGTH_BYTES = 8
# the description is JSON within JSON; quotes within its strings are escaped once more
_DIGEST = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')


def fill_digest(content: bytearray) -> None:
    """Replace ``BLANK`` in the bytes of a model file by the digest."""
    found = _find(content[: _LENGTH_BYTES + _header_length(content)])
    assert found is not None
    start, end = found.span(1)
    content[start:end] = hashlib.sha256(content).hexdigest().encode()


def check_digest(
    path: Path, remedy: str = "run `darkroom verify`, or `dvc repro --force train`"
) -> None:
    """Check a model file against the digest that it contains, in bounded memory.

    Args:
        remedy: what to do about a damaged file, as the end of a message.

    Raises:
        UserError: the digest is wrong or missing, or the file cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(_LENGTH_BYTES)
            header = file.read(min(_header_length(start), MAX_HEADER_BYTES))
            found = _find(start + header)
            if found is None:
                raise UserError(
                    f"{path}: contains no digest of itself, so it is damaged, or was written by an "
                    f"earlier version of darkroom; {remedy}"
                )
            blanked = bytearray(start + header)
            blanked[slice(*found.span(1))] = BLANK.encode()
            sha256 = hashlib.sha256(blanked)
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    if sha256.hexdigest() != found[1].decode():
        raise UserError(f"{path}: damaged: its bytes do not match its digest; {remedy}")


def _header_length(start: bytes | bytearray) -> int:
    return int.from_bytes(start[:_LENGTH_BYTES], "little")


def _find(header: bytes | bytearray) -> re.Match[bytes] | None:
    """Return the position of the digest, or None unless there is exactly one."""
    found = list(_DIGEST.finditer(bytes(header)))
    return found[0] if len(found) == 1 else None
