"""Bytes of files that anyone may have put there: never without end, and never by waiting."""

import os
import stat
from pathlib import Path

from darkroom.decoding.decode import BadImage

MAX_FILE_BYTES = 2**29
"""Larger files are not read: no image of a size that is decoded needs as much."""


def read_image_file(path: Path | str) -> bytes:
    """Returns the bytes of a file.

    Raises:
        BadImage: not a regular file (a pipe, a device, a socket, a folder), or over ``MAX_FILE_BYTES``,
            as its size says or as it turns out.
        OSError: the file cannot be read.
    """
    # to open a pipe without this flag waits until somebody writes to it
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("unreadable", "not a regular file")
        check_size(status.st_size)
        content = file.read(MAX_FILE_BYTES + 1)  # it may have grown
    check_size(len(content))
    return content


def check_size(num_bytes: int) -> None:
    """Raises BadImage for a file that is too large to be read."""
    if num_bytes > MAX_FILE_BYTES:
        raise BadImage("too large", f"{num_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read")
