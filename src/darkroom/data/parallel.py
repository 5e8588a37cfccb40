"""Maps a function over items in worker processes: results in order, memory bounded by the workers."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 64
"""Items a task: large enough to hide the cost of handing it over."""

SERIAL_BELOW = 2_000
"""Fewer items than this are nearly done before worker processes have started."""


def ordered_map(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """Yields ``function`` of every item, in the order of ``items``.

    Args:
        function: takes a chunk of items and returns a result for each; importable by name.
        items: cheap to hand to another process (paths, not pixels).
        workers: processes; about two chunks a process are under way at once.
    """
    chunks = (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
    if workers == 1 or len(items) < SERIAL_BELOW:
        for chunk in chunks:
            yield from function(chunk)
        return
    # spawn: the same on every platform, and safe beside threads, which a fork is not
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending: deque[Future[list[Result]]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(function, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
