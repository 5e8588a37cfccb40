"""Files and folders that only their owner can read, whatever the umask."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def private_folder(folder: Path) -> None:
    """Makes a folder if it is not there, and takes it and what lies in it from all but its owner.

    What lies in it is looked at once: not where the folder is private already.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with suppress(OSError):  # of another owner, or a disk that knows no modes
        if folder.stat().st_mode & 0o777 == FOLDER_MODE:
            return
        for parent, folders, files in os.walk(folder):
            for names, mode in ((folders, FOLDER_MODE), (files, FILE_MODE)):
                for name in names:
                    path = os.path.join(parent, name)
                    if not os.path.islink(path):
                        os.chmod(path, mode)
        folder.chmod(FOLDER_MODE)  # last: a process that is killed before begins anew


def open_private(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Opens a file to be written, and takes it from all but its owner."""
    return cast(BinaryIO, open(path, mode, opener=private_opener))


def private_opener(path: str, flags: int) -> int:
    """Is an ``opener`` for ``open`` that makes files which only their owner can read."""
    file = os.open(path, flags, FILE_MODE)
    with suppress(OSError):
        os.fchmod(file, FILE_MODE)
    return file
