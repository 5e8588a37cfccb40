"""Names files that take long to decode, and stops if a file takes too long.

This is a safety net in addition to the limits on pixels and structure. Time is never an outcome, because
outputs must not depend on it: a slow file is named on the terminal, and a file that exceeds the maximum
stops the stage.
"""

import contextlib
import functools
import mmap
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

_NOTE = struct.Struct("<dI")
"""When a file was begun, 0 if there is none, and the size of its path, which follows."""

_NOTE_BYTES = 64 * 1024


@contextlib.contextmanager
def name_if_slow(path: str) -> Iterator[None]:
    """Name ``path`` on standard error if the block takes this thread over ``SLOW_SECONDS``."""
    started, cpu_started = time.monotonic(), time.thread_time()
    yield
    # the clock of the thread, a system call, is read only if enough time has passed
    if time.monotonic() - started > SLOW_SECONDS:
        seconds = time.thread_time() - cpu_started
        if seconds > SLOW_SECONDS:
            _name_slow(path, seconds)


def _name_slow(path: str, seconds: float) -> None:
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

    def on(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Limit the CPU time of a block to ``MAX_SECONDS``.

        A worker process is killed by the kernel, even inside a decoder, and ``explain`` tells why. In
        the main process the block is interrupted as soon as the decoder returns to Python.

        Raises:
            UserError: the time is over, in the main process.
        """
        if multiprocessing.parent_process() is not None:
            return _WatchedByKernel(_open_note(self.folder), path)
        if threading.current_thread() is not threading.main_thread():
            return name_if_slow(path)
        return _interrupted_if_too_long(path)

    def explain(self, killed: WorkerKilled) -> UserError:
        """Return why a worker process was killed, given the files that the workers were decoding."""
        notes = []
        for file in self.folder.iterdir():
            content = file.read_bytes()
            started, size = _NOTE.unpack_from(content)
            if started:
                notes.append((started, os.fsdecode(content[_NOTE.size : _NOTE.size + size])))
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


class _Note:
    """The path of the file that this process decodes, in shared memory, which outlives the process.

    There is a note for every image, so it must cost less than a system call.
    """

    def __init__(self, file: Path) -> None:
        with file.open("xb+") as opened:
            opened.truncate(_NOTE_BYTES)
            self._memory = mmap.mmap(opened.fileno(), _NOTE_BYTES)

    def begin(self, path: str) -> None:
        encoded = os.fsencode(path)[: _NOTE_BYTES - _NOTE.size]
        end = _NOTE.size + len(encoded)
        self._memory[_NOTE.size : end] = encoded
        _NOTE.pack_into(self._memory, 0, time.monotonic(), len(encoded))

    def end(self) -> None:
        _NOTE.pack_into(self._memory, 0, 0.0, 0)


class _WatchedByKernel:
    """Has the kernel kill this worker process if a block takes too long.

    A class, since a generator would cost more than half of what is done here for every image.
    """

    __slots__ = ("_note", "_path")

    def __init__(self, note: _Note, path: str) -> None:
        self._note, self._path = note, path

    def __enter__(self) -> None:
        self._note.begin(self._path)
        # SIGPROF counts CPU time, which neither a slow disk nor a suspended machine uses up
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)

    def __exit__(self, *_: object) -> None:
        left = signal.setitimer(signal.ITIMER_PROF, 0)[0]
        self._note.end()
        if MAX_SECONDS - left > SLOW_SECONDS:
            _name_slow(self._path, MAX_SECONDS - left)


@contextlib.contextmanager
def _interrupted_if_too_long(path: str) -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        with name_if_slow(path):
            yield
    except _TooLong:
        raise UserError(_too_long(path)) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@functools.cache
def _open_note(folder: Path) -> _Note:
    return _Note(folder / f"{os.getpid()}")


def _too_long(path: str) -> str:
    return (
        f"data.path: {for_line(path)} takes over {MAX_SECONDS:.0f} s of CPU time to decode; remove it, "
        "or save it again with an image editor"
    )


def _stop(signum: int, frame: object) -> NoReturn:
    raise _TooLong
