"""Opens files that anyone may have provided: only regular ones, and without blocking."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class NotRegular(Exception):
    """A path leads to a pipe, a device or a socket."""

    def __str__(self) -> str:
        return "not a regular file"


@contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file for reading while the block runs.

    Raises:
        NotRegular: it is a pipe, a device or a socket.
        OSError: it does not exist, is a folder, or cannot be read.
    """
    # without O_NONBLOCK, opening a pipe would wait for a writer
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotRegular
        yield file
