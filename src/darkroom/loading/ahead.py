"""Work done ahead of its use: by worker processes, by a thread, by a GPU's copy engine."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import forkserver
from typing import Any, TypeVar

import torch
from torch import Tensor

from darkroom.parallel import Workers

Item = TypeVar("Item")


def loading_workers(function: partial[Tensor], workers: int) -> Workers[Any, Tensor]:
    """Starts processes that load images beside the training.

    Args:
        function: takes a request. The tensors that it returns come back in shared memory.
    """
    # A fork beside threads may hang, and each spawned worker imports torch anew. A fork server
    # imports it once, from now on, beside what this process does until the first request.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([function.func.__module__])
        forkserver.ensure_running()
    return Workers(function, workers, context, _stand_back)


def _stand_back() -> None:
    """Leaves a worker's cores to the training."""
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)  # a step on the CPU waits for the slowest of its threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent decides what is still needed


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
