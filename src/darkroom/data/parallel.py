"""Maps a function over chunks in worker processes: results in order, memory bounded by the workers."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

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
        UserError: a worker process was killed.
    """
    if workers == 1:
        yield from map(function, chunks)
        return
    # spawn: the same on every platform, and safe beside threads, which a fork is not
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_keep, initargs=(function,)) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(_call, chunk))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, as happens where memory runs out; "
                "run again with fewer, such as DARKROOM_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_kept: Callable[[Any], Any]


def _keep(function: Callable[[Any], Any]) -> None:
    global _kept
    _kept = function
    end_with_parent()


def end_with_parent() -> None:
    """Ends this worker with its parent, from a thread.

    A pool's workers do not notice that their parent was killed, and would wait for ever.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _call(chunk: Any) -> Any:
    return _kept(chunk)
