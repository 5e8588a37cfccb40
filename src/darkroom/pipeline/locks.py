"""Keeps a second run of a stage out of the project that a first one works in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.errors import UserError


@contextmanager
def only_one(stage: str, folder: Path) -> Iterator[None]:
    """Holds the lock of ``stage`` in ``folder`` while the block runs.

    It ends with the process, however that ends.

    A run whose ``dvc`` was killed lives on for some seconds, and would disturb the next one.

    Raises:
        UserError: another process holds the lock; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{stage}.lock", timeout=0)
    holder = folder / f"{stage}.pid"  # the lock file itself is emptied by whoever tries it
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{stage}: another {stage} is at work in this project, process {_read(holder)}; "
            "wait for its end, or end it"
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
