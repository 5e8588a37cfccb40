"""Loading ahead of use: by worker processes, by a thread, by a GPU's copy engine."""

import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from darkroom.parallel import Workers, context_with

Item = TypeVar("Item")


def loading_workers(function: partial[Tensor], workers: int) -> Workers[Any, Tensor]:
    """Start processes that load images while the model is trained.

    Args:
        function: takes a request; returns a tensor, which is passed back in shared memory.
    """
    return Workers(function, workers, context_with(function.func.__module__), _yield_cores)


def _yield_cores() -> None:
    """Give the training priority over this worker."""
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)  # a step on the CPU waits for its slowest thread
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C


DEPTH = 2
"""Number of items that ``ahead`` takes in advance."""


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield ``items`` in order; a thread takes ``DEPTH`` of them in advance.

    An exception is raised when its item is due. The thread ends when the iteration ends or is closed.
    """
    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(next, items, None) for _ in range(DEPTH))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, items, None))
            yield item


def copied_ahead(chunks: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield copies of CPU tensors on a GPU, made while the GPU computes.

    A thread takes the chunks and copies them on a stream of its own. The computing stream waits for the
    copy; the CPU does not.
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
        images.record_stream(computing)  # else its memory could be reused too early
        yield images
