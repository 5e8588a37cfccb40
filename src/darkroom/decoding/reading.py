"""Reads image files that anyone may have provided, with bounded memory and without blocking."""

import os
import stat
from pathlib import Path

from darkroom.decoding.bad_image import BadImage

MAX_FILE_BYTES = 2**29
"""Maximum size of a file. No image within the limits on pixels needs as much."""


def read_image_file(path: Path | str) -> bytes:
    """Return the bytes of a file.

    Raises:
        BadImage: the path is not a regular file (but a pipe, device, socket or folder), or the file is
            larger than ``MAX_FILE_BYTES``.
        OSError: the file cannot be read.
    """
    # without O_NONBLOCK, opening a pipe would wait for a writer
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("unreadable", "not a regular file")
        check_size(status.st_size)
        content = file.read(MAX_FILE_BYTES + 1)  # the file may have grown
    check_size(len(content))
    return content


def check_size(num_bytes: int) -> None:
    """Raise BadImage for a file that is too large to be read."""
    if num_bytes > MAX_FILE_BYTES:
        raise BadImage("too large", f"{num_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read")
