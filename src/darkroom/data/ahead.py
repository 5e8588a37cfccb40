"""Work done ahead of its use: by worker processes, by a thread, by a GPU's copy engine."""

import multiprocessing
import os
import signal
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver
from typing import Any, TypeVar

import torch
from torch import Tensor

from darkroom.data.parallel import end_with_parent
from darkroom.errors import UserError

Item = TypeVar("Item")


class Workers:
    """Processes that apply one function to requests: results in order, the same for any number.

    They stay from one ``map`` to the next, and end with this object or with this process, however
    that ends.

    Args:
        function: is pickled once a worker. The tensors that it returns come back in shared memory.
    """

    def __init__(self, function: partial[Tensor], workers: int) -> None:
        # A fork beside threads may hang, and each spawned worker imports torch anew. A fork server
        # imports it once, from now on, beside what this process does until the first request.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload([function.func.__module__])
            forkserver.ensure_running()
        self._workers = workers
        self._pool = ProcessPoolExecutor(workers, context, _begin, (function,))
        # left to the interpreter's end, the pool would outlive the modules that it needs
        weakref.finalize(self, self._pool.shutdown, cancel_futures=True)

    def map(self, requests: Iterable[Any]) -> Iterator[Tensor]:
        """Yields ``function(request)`` for every request.

        Raises:
            UserError: a worker process was killed.
        """
        pending: deque[Future[Tensor]] = deque()
        try:
            for request in requests:
                pending.append(self._pool.submit(_call, request))
                if len(pending) > 2 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, as happens where memory runs out; "
                "run again with fewer, such as DARKROOM_WORKERS=1"
            ) from None
        finally:
            for future in pending:
                future.cancel()


_function: partial[Tensor]


def _begin(function: partial[Tensor]) -> None:
    """Begins the life of a worker process."""
    global _function
    _function = function
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)  # a step on the CPU waits for the slowest of its threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent decides what is still needed
    end_with_parent()


def _call(request: Any) -> Tensor:
    return _function(request)


def ahead(items: Iterator[Item], depth: int = 2) -> Iterator[Item]:
    """Yields ``items`` in their order, of which a thread takes ``depth`` before they are asked for.

    What taking one raises is raised here, in its turn. The thread ends with the iteration, also with
    one that is closed early.
    """
    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(next, items, None) for _ in range(depth))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, items, None))
            yield item


def copied_ahead(chunks: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yields copies on a GPU of tensors of the CPU, made while the GPU computes.

    A thread takes the chunks and has them copied on a stream of its own. The stream that computes waits
    for the copy; nothing waits on the CPU.
    """
    stream = torch.cuda.Stream(device)

    def copies() -> Iterator[tuple[Tensor, torch.cuda.Event]]:
        for chunk in chunks:
            with torch.cuda.stream(stream):
                images = chunk.pin_memory().to(device, non_blocking=True)
                copied = stream.record_event()
            yield images, copied

    for images, copied in ahead(copies()):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(copied)
        images.record_stream(computing)  # else its memory could be filled anew too early
        yield images
