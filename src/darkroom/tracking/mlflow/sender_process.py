"""Starts the sender in a process of its own, and keeps it the only one for its project and MLflow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS
from darkroom.tracking.journal.private import FILE_MODE, open_private, private_folder

LOG_BYTES = 1 << 20
"""Size at which a new log is started; the previous one is kept."""


class DetachedProcess(subprocess.Popen[bytes]):
    """A process that outlives its parent."""

    def __del__(self) -> None:
        """Give no ResourceWarning, as ``Popen`` does: the process is meant to run on."""


def start_sender(root: Path) -> DetachedProcess:
    """Start a sender for the project at ``root`` and the MLflow that the environment names."""
    path = root / JOURNALS / "sender.log"
    with suppress(OSError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".1.log"))
    with open_private(path, "ab") as log:
        return DetachedProcess(
            [sys.executable, "-m", "darkroom.tracking.mlflow.sender", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,  # relative addresses refer to it
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is meant for the stage
        )


@contextmanager
def only_sender(root: Path, address: Address, seconds: float) -> Iterator[bool]:
    """Yield whether this process is the only sender to ``address`` while the block runs.

    Waits at most ``seconds`` for another sender, which stops early for us if it cannot reach MLflow.
    """
    private_folder(root / JOURNALS)
    lock, next_lock = _lock(root, address), _lock(root, address, "-next")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            with suppress(Timeout):
                next_lock.acquire(timeout=1)
            lock.acquire(timeout=seconds)
        except Timeout:
            yield False
            return
        finally:
            next_lock.release()
    try:
        yield True
    finally:
        lock.release()


def has_sender(root: Path, address: Address) -> bool:
    """Return whether a process is sending to ``address``."""
    return _is_held(_lock(root, address))


def is_successor_waiting(root: Path, address: Address) -> bool:
    """Return whether another process waits to be the sender to ``address``."""
    return _is_held(_lock(root, address, "-next"))


def _lock(root: Path, address: Address, who: str = "") -> FileLock:
    """Return the lock of the sender, or of the process that waits to be the sender."""
    return FileLock(root / JOURNALS / f"sender-{address.digest}{who}.lock", mode=FILE_MODE)


def _is_held(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
