"""Reads image files that anyone may have provided, with bounded memory and without blocking."""

import os
from pathlib import Path

from darkroom.decoding.bad_image import BadImage
from darkroom.regular_files import NotRegular, open_regular

MAX_FILE_BYTES = 2**29
"""Maximum size of a file. No image within the limits on pixels needs as much."""


def read_image_file(path: Path | str) -> bytes:
    """Return the bytes of a file.

    Raises:
        BadImage: the path is not a regular file (but a pipe, device, socket or folder), or the file is
            larger than ``MAX_FILE_BYTES``.
        OSError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            check_size(os.fstat(file.fileno()).st_size)
            content = file.read(MAX_FILE_BYTES + 1)  # the file may have grown
    except NotRegular as error:
        raise BadImage("unreadable", f"{error}") from None
    check_size(len(content))
    return content


def check_size(num_bytes: int) -> None:
    """Raise BadImage for a file that is too large to be read."""
    if num_bytes > MAX_FILE_BYTES:
        raise BadImage("too large", f"{num_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read")
