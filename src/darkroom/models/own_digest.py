"""The digest that a model file holds of itself.

It is the SHA-256 of the whole file with its own 64 digits replaced by zeros, so it covers every byte:
header, description and weights. It stands in the description, under ``sha256``.
"""

import hashlib
import re
from pathlib import Path

from darkroom.digests import CHUNK_BYTES
from darkroom.errors import UserError

KEY = "sha256"
"""Of the digest in the description."""

BLANK = "0" * 64
"""What the description holds where the digest is to be."""

MAX_HEADER_BYTES = 100_000_000
"""safetensors reads no longer header."""

_LENGTH_BYTES = 8
# the description is JSON within JSON; quotes within its own strings are escaped once more
_DIGEST = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')


def fill_digest(content: bytearray) -> None:
    """Puts the digest into the bytes of a model file whose description holds ``BLANK``."""
    found = _find(content[: _LENGTH_BYTES + _header_length(content)])
    assert found is not None
    start, end = found.span(1)
    content[start:end] = hashlib.sha256(content).hexdigest().encode()


def check_digest(
    path: Path, remedy: str = "run `darkroom verify`, or `dvc repro --force train`"
) -> None:
    """Compares a model file with the digest that it holds, reading all of it in bounded memory.

    Args:
        remedy: what to do about a damaged file, as the end of a message.

    Raises:
        UserError: the file has other bytes, or holds no digest, or cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(_LENGTH_BYTES)
            header = file.read(min(_header_length(start), MAX_HEADER_BYTES))
            found = _find(start + header)
            if found is None:
                raise UserError(
                    f"{path}: holds no digest of itself, so it is damaged, or was made by an earlier "
                    f"version of darkroom; {remedy}"
                )
            blanked = bytearray(start + header)
            blanked[slice(*found.span(1))] = BLANK.encode()
            sha256 = hashlib.sha256(blanked)
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    if sha256.hexdigest() != found[1].decode():
        raise UserError(f"{path}: damaged: its bytes are not those of the digest it holds; {remedy}")


def _header_length(start: bytes | bytearray) -> int:
    return int.from_bytes(start[:_LENGTH_BYTES], "little")


def _find(header: bytes | bytearray) -> re.Match[bytes] | None:
    """Returns where the digest stands, or None where it does not stand exactly once."""
    found = list(_DIGEST.finditer(bytes(header)))
    return found[0] if len(found) == 1 else None
