"""Reads JSON files, and limits the memory that a file can take."""

import json
from pathlib import Path
from typing import Any

from darkroom.regular_files import NotRegular, open_regular

MAX_BYTES = 256 * 2**20
"""Maximum size of a file, unless a caller sets another."""


class BadJson(ValueError):
    """A file is not a regular file, too large, or not JSON. Its text is the reason, in a few words."""


def load_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        BadJson: it is not a regular file, larger than ``max_bytes``, or not JSON.
        OSError: it does not exist, or cannot be read.
    """
    return parse_json(read_bounded(path, max_bytes))


def read_bounded(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a file; raise as ``load_json`` does."""
    try:
        with open_regular(path) as file:
            content = file.read(max_bytes + 1)
    except NotRegular as error:
        raise BadJson(f"{error}") from None
    if len(content) > max_bytes:
        raise BadJson(f"over {max_bytes:,} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises:
        BadJson: the text is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise BadJson("nested too deeply") from None
    except ValueError as error:
        raise BadJson(f"{error}") from None
