"""A lock that keeps a second run of a stage out of the project."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.errors import UserError


@contextmanager
def only_one(stage: str, folder: Path) -> Iterator[None]:
    """Hold the lock of ``stage`` in ``folder`` while the block runs.

    The operating system frees the lock when the process ends in any way. A stage whose ``dvc`` was
    killed lives for some more seconds, and would disturb the next run.

    Raises:
        UserError: another process holds the lock; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{stage}.lock", timeout=0)
    holder = folder / f"{stage}.pid"  # a process that tries the lock empties the lock file itself
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{stage}: another {stage} is running in this project, process {_read(holder)}; "
            "wait until it ends, or stop it"
        ) from None
    try:
        holder.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8") or "unknown"
    except OSError:
        return "unknown"
