"""Files and folders that only their owner can read, whatever the umask is."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def private_folder(folder: Path) -> None:
    """Create a folder if necessary, and make it and its content private.

    The content is only visited if the folder is not private yet.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with suppress(OSError):  # of another owner, or on a file system without modes
        if folder.stat().st_mode & 0o777 == FOLDER_MODE:
            return
        for parent, folders, files in os.walk(folder):
            for names, mode in ((folders, FOLDER_MODE), (files, FILE_MODE)):
                for name in names:
                    path = os.path.join(parent, name)
                    if not os.path.islink(path):
                        os.chmod(path, mode)
        folder.chmod(FOLDER_MODE)  # last, so that a process that is killed before starts over


def open_private(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file for writing, and make it private."""
    return cast(BinaryIO, open(path, mode, opener=private_opener))


def private_opener(path: str, flags: int) -> int:
    """Open a private file: an ``opener`` for ``open``."""
    file = os.open(path, flags, FILE_MODE)
    with suppress(OSError):
        os.fchmod(file, FILE_MODE)
    return file
