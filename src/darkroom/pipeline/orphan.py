"""Ends a stage whose ``dvc`` was killed: it would go on alone, beside the next ``dvc repro``."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_SECONDS = 1.0

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})
"""DVC runs a command in a shell, which may stand between the two."""


def end_with_dvc() -> None:
    """Watches ``dvc``, where that runs this process, and sends ourselves SIGTERM when it is gone."""
    if "DVC_STAGE" not in os.environ or threading.current_thread() is not threading.main_thread():
        return
    parent = os.getppid()
    watched = {pid: _started(pid) for pid in _up_to_dvc(parent)}

    def watch() -> None:
        while os.getppid() == parent and all(_started(pid) == began for pid, began in watched.items()):
            time.sleep(LOOK_EVERY_SECONDS)
        with suppress(OSError):  # who read standard error may be gone with dvc
            print("dvc is gone; this stage ends too", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-dvc", daemon=True).start()


def _up_to_dvc(pid: int) -> list[int]:
    """Returns ``pid`` and, as far as it and those above are shells, their parents."""
    pids = [pid]
    while (stat := _stat(pids[-1])) is not None and stat[0] in SHELLS:
        pids.append(int(stat[1][1]))
    return pids


def _started(pid: int) -> str | None:
    """Returns when a process started, which tells it from a later one of its number.

    None where it has ended, and on systems without /proc.
    """
    stat = _stat(pid)
    return None if stat is None or stat[1][0] == "Z" else stat[1][19]


def _stat(pid: int) -> tuple[str, list[str]] | None:
    """Returns the name of a process, and the fields behind it (see proc(5), ``/proc/pid/stat``)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()
