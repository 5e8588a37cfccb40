"""Ends a stage whose ``dvc`` was killed, so that it does not run beside the next ``dvc repro``."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_SECONDS = 1.0

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})
"""DVC runs a command in a shell, which is then the stage's parent."""


def end_with_dvc() -> None:
    """Send this process SIGTERM when the ``dvc`` that runs it, if any, is gone."""
    if "DVC_STAGE" not in os.environ or threading.current_thread() is not threading.main_thread():
        return
    parent = os.getppid()
    watched = {pid: _started(pid) for pid in _up_to_dvc(parent)}

    def watch() -> None:
        while os.getppid() == parent and all(_started(pid) == began for pid, began in watched.items()):
            time.sleep(LOOK_EVERY_SECONDS)
        with suppress(OSError):  # the reader of standard error may be gone, too
            print("dvc has ended, so this stage stops as well", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-dvc", daemon=True).start()


def _up_to_dvc(pid: int) -> list[int]:
    """Return ``pid`` and its ancestors up to the first that is not a shell."""
    pids = [pid]
    while (stat := _stat(pids[-1])) is not None and stat[0] in SHELLS:
        pids.append(int(stat[1][1]))
    return pids


def _started(pid: int) -> str | None:
    """Return when a process started, which distinguishes it from a later process with its number.

    None if it has ended, or if the system has no /proc.
    """
    stat = _stat(pid)
    return None if stat is None or stat[1][0] == "Z" else stat[1][19]


def _stat(pid: int) -> tuple[str, list[str]] | None:
    """Return a process's name, and the fields after it in ``/proc/pid/stat`` (see proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()
