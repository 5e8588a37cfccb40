"""Maps a function over chunks in worker processes: results in order, memory bounded by the workers."""

import multiprocessing
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

from darkroom.errors import UserError

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int
) -> Iterator[Result]:
    """Yields ``function(chunk)`` for every chunk, in their order.

    Args:
        function: is pickled once a worker, so it may hold what is costly to hand over.
        chunks: taken one after the other, about two a worker ahead of the results.
        workers: processes; with one, everything happens in this process.

    Raises:
        WorkerKilled: a worker process was killed.
    """
    if workers == 1:
        yield from map(function, chunks)
        return
    # spawn: the same on every platform, and safe beside threads, which a fork is not
    pool = Workers(function, workers, multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(chunks)
    finally:
        pool.close()


class WorkerKilled(UserError):
    """A worker process was killed, by the system or by itself."""


class Workers(Generic[Chunk, Result]):
    """Processes that apply one function to chunks: results in order, the same for any number.

    They stay from one ``map`` to the next, and end when they are closed, with this object, or with
    this process, however that ends.

    Args:
        function: is pickled once a worker.
        begin: is called first in each worker.
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
        except (OSError, NotImplementedError) as error:  # of a semaphore, which names no file
            reason = getattr(error, "strerror", None) or "no semaphores"
            raise UserError(
                f"worker processes cannot be started ({reason}): they need /dev/shm, which may be "
                "missing, full or read-only, and open files; set DARKROOM_WORKERS=1 to do without them"
            ) from None
        # left to the interpreter's end, the pool would outlive the modules that it needs
        weakref.finalize(self, self._pool.shutdown, cancel_futures=True)

    def map(self, chunks: Iterable[Chunk]) -> Iterator[Result]:
        """Yields ``function(chunk)`` for every chunk; these are taken about two a worker ahead.

        Raises:
            WorkerKilled: a worker process was killed.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                pending.append(self._pool.submit(_call, chunk))
                if len(pending) > 2 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise WorkerKilled(
                "a worker process was killed, as happens where memory runs out; "
                "run again with fewer, such as DARKROOM_WORKERS=1"
            ) from None
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Ends the processes, and waits for that."""
        self._pool.shutdown(wait=True, cancel_futures=True)


_kept: Callable[[Any], Any]


def _keep(function: Callable[[Any], Any], begin: Callable[[], None] | None) -> None:
    """Begins the life of a worker process."""
    global _kept
    _kept = function
    if begin is not None:
        begin()
    # a pool's workers do not notice that their parent was killed, and would wait for ever
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _call(chunk: Any) -> Any:
    return _kept(chunk)
