"""Maps a function over chunks in worker processes, in order and with bounded memory."""

import contextlib
import multiprocessing
import os
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any, Generic, Protocol, TypeVar

from darkroom.errors import UserError

Item = TypeVar("Item")
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``; the last one may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


class OrderedMap(Protocol):
    """``ordered_map``, or what computes the same elsewhere."""

    def __call__(
        self,
        function: Callable[[Chunk], Result],
        chunks: Iterable[Chunk],
        workers: int,
        most_pending: int | None = None,
    ) -> Iterator[Result]: ...


def ordered_map(
    function: Callable[[Chunk], Result],
    chunks: Iterable[Chunk],
    workers: int,
    most_pending: int | None = None,
    context: BaseContext | None = None,
) -> Iterator[Result]:
    """Yield ``function(chunk)`` for every chunk, in order.

    Args:
        function: pickled once per worker, so it may contain large objects. It must not be defined in the
            program's script, which workers do not run.
        chunks: consumed about two per worker ahead of the results.
        workers: number of processes; with 1, everything runs in this process.
        most_pending: number of chunks that may be consumed before their results; by default twice the
            number of workers, and one.
        context: how processes start. By default they are spawned, which works on every platform and,
            unlike a fork of this process, is safe with threads.

    Raises:
        WorkerKilled: a worker process was killed.
    """
    if workers == 1:
        yield from map(function, chunks)
        return
    pool = Workers(function, workers, context or multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(chunks, most_pending)
    finally:
        pool.close()


def context_with(module: str) -> BaseContext:
    """Return a context for worker processes that need ``module``, and begin to import it for them.

    Each spawned process would import it again. A fork server, which runs no threads, imports it once, in
    parallel with this process, and is then forked in milliseconds. A process has one server, which
    imports the module of the first call. Where there is none (Windows), processes are spawned.

    Raises:
        UserError: the server cannot be started.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    try:
        # multiprocessing documents no way to start it before the first worker, which calls this
        forkserver.ensure_running()
    except OSError as error:
        raise UserError(
            f"worker processes cannot be started ({error}): they need a socket in the folder for"
            " temporary files; if the path of that folder is long, set TMPDIR to a shorter one, such as"
            " /tmp"
        ) from None
    return context


class WorkerKilled(UserError):
    """A worker process was killed."""


class Workers(Generic[Chunk, Result]):
    """Processes that apply one function to chunks, with the same results for any number of workers.

    The processes are reused by each call of ``map``. They end when ``close`` is called, this object is
    deleted, or this process ends in any way.

    Args:
        function: pickled once per worker.
        begin: called first in each worker.
    """

    def __init__(
        self,
        function: Callable[[Chunk], Result],
        workers: int,
        context: BaseContext,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._workers = workers
        try:
            self._pool = ProcessPoolExecutor(workers, context, _keep, (function, begin))
        except (OSError, NotImplementedError) as error:  # from a semaphore; the error names no file
            reason = getattr(error, "strerror", None) or "no semaphores"
            raise UserError(
                f"worker processes cannot be started ({reason}): they need open files and /dev/shm, "
                "which may be missing, full or read-only; set DARKROOM_WORKERS=1 to work without them"
            ) from None
        # without waiting: the garbage collector may call this in a thread that others wait for
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def map(self, chunks: Iterable[Chunk], most_pending: int | None = None) -> Iterator[Result]:
        """Yield ``function(chunk)`` for every chunk, in order.

        Args:
            most_pending: see ``ordered_map``.

        Raises:
            WorkerKilled: a worker process was killed.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                with _without_program():
                    pending.append(self._pool.submit(_call, chunk))
                if len(pending) >= (most_pending or 2 * self._workers + 1):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise WorkerKilled(
                "a worker process was killed, perhaps because memory ran out; "
                "run again with fewer workers, for example DARKROOM_WORKERS=1"
            ) from None
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End the processes, and wait until they have ended."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_program() -> Iterator[None]:
    """Let processes that start in this block import what their function needs, and nothing else.

    Python would have each worker run the program's script again, as `__mp_main__`, to find functions
    that are defined there. Ours never are, and the imports of a script take longer than theirs.
    """
    program = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


_kept: Callable[[Any], Any]


def _keep(function: Callable[[Any], Any], begin: Callable[[], None] | None) -> None:
    """Initialise a worker process."""
    global _kept
    _kept = function
    if begin is not None:
        begin()
    # workers of a pool do not notice that their parent was killed, and would wait forever
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _call(chunk: Any) -> Any:
    return _kept(chunk)
