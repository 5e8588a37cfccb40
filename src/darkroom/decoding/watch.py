"""Names files that take long to decode, and stops if a file takes too long.

This is a safety net in addition to the limits on pixels and structure. Time is never an outcome, because
outputs must not depend on it: a slow file is named on the terminal, and a file that exceeds the maximum
stops the stage.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from darkroom.errors import UserError
from darkroom.escape import for_line
from darkroom.parallel import WorkerKilled

SLOW_SECONDS = 10.0
"""CPU time above which a file is named."""

MAX_SECONDS = 60.0
"""Maximum CPU time per file, far above that of any accepted file on current machines."""

_START = struct.Struct("<d")


@contextlib.contextmanager
def name_if_slow(path: str) -> Iterator[None]:
    """Name ``path`` on standard error if the block takes this thread over ``SLOW_SECONDS``."""
    started = time.thread_time()
    yield
    seconds = time.thread_time() - started
    if seconds > SLOW_SECONDS:
        print(f"{for_line(path)}: took {seconds:.0f} s to decode", file=sys.stderr, flush=True)


class _TooLong(BaseException):
    """Not an ``Exception``, because these are interpreted as damage of the file."""


@dataclass(frozen=True)
class Watch:
    """Records which file each process is decoding.

    Args:
        folder: gets a file per process with the path of the image that the process decodes.
    """

    folder: Path

    @contextlib.contextmanager
    def on(self, path: str) -> Iterator[None]:
        """Limit the CPU time of a block to ``MAX_SECONDS``.

        A worker process is killed by the kernel, even inside a decoder, and ``explain`` tells why. In
        the main process the block is interrupted as soon as the decoder returns to Python.

        Raises:
            UserError: the time is over, in the main process.
        """
        note = None
        if is_worker := multiprocessing.parent_process() is not None:
            note = _open_note(self.folder)
            os.pwrite(note, _START.pack(time.monotonic()) + os.fsencode(path), 0)
        elif threading.current_thread() is not threading.main_thread():
            with name_if_slow(path):
                yield
            return
        # SIGPROF counts CPU time, which neither a slow disk nor a suspended machine uses up
        before = None if is_worker else signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        try:
            with name_if_slow(path):
                yield
        except _TooLong:
            raise UserError(_too_long(path)) from None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if note is not None:
                os.ftruncate(note, 0)
            else:
                signal.signal(signal.SIGPROF, before)

    def explain(self, killed: WorkerKilled) -> UserError:
        """Return why a worker process was killed, given the files that the workers were decoding."""
        notes = []
        for file in self.folder.iterdir():
            content = file.read_bytes()
            if len(content) > _START.size:
                [started] = _START.unpack(content[: _START.size])
                notes.append((started, os.fsdecode(content[_START.size :])))
        if notes and time.monotonic() - min(notes)[0] >= MAX_SECONDS:
            return UserError(_too_long(min(notes)[1]))
        paths = ", ".join(for_line(path) for _, path in sorted(notes))
        return UserError(f"{killed}. It was reading {paths}") if paths else killed


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Yield a watch for the worker processes of a block.

    Raises:
        UserError: a worker was killed. The message names the files that it may have been decoding.
    """
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        watch = Watch(Path(folder))
        try:
            yield watch
        except WorkerKilled as killed:
            raise watch.explain(killed) from None


@functools.cache
def _open_note(folder: Path) -> int:
    return os.open(folder / f"{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _too_long(path: str) -> str:
    return (
        f"data.path: {for_line(path)} takes over {MAX_SECONDS:.0f} s of CPU time to decode; remove it, "
        "or save it again with an image editor"
    )


def _stop(signum: int, frame: object) -> NoReturn:
    raise _TooLong
