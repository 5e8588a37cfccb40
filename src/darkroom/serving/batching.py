"""Dynamic batching: images of different requests that wait are classified together."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


class Batcher(Generic[Item, Output]):
    """Runs a function on batches of items, one batch at a time.

    While a batch runs, items that arrive wait and form the next one. An item that finds the function
    idle waits for others, but not long. Nothing has to be closed: without items there is no task.

    Args:
        run: called in ``executor`` with 1 to ``max_batch`` items; returns an output for each.
        max_batch: maximum number of items in a batch.
        max_wait: seconds that an item waits for others, although the function is idle.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Output]],
        executor: Executor,
        max_batch: int,
        max_wait: float,
        observe: Callable[[int], object],
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._observe = observe
        self._waiting: deque[tuple[float, Item, asyncio.Future[Output]]] = deque()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Output:
        """Return the output for an item.

        Raises:
            Exception: what ``run`` raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()
        self._waiting.append((loop.time(), item, future))
        if self._task is None:
            self._task = loop.create_task(self._drain())
        elif len(self._waiting) >= self._max_batch:
            self._full.set()
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._fill()
                await self._run_batch()
        finally:
            self._task = None

    async def _fill(self) -> None:
        """Wait until there is a full batch, or the first item has waited long enough."""
        if len(self._waiting) >= self._max_batch:
            return
        remaining = self._waiting[0][0] + self._max_wait - asyncio.get_running_loop().time()
        if remaining > 0:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), remaining)

    async def _run_batch(self) -> None:
        number = min(len(self._waiting), self._max_batch)
        batch = [self._waiting.popleft() for _ in range(number)]
        batch = [entry for entry in batch if not entry[2].done()]  # their requests were given up
        if not batch:
            return
        self._observe(len(batch))
        items = [item for _, item, _ in batch]
        loop = asyncio.get_running_loop()
        try:
            outputs = await loop.run_in_executor(self._executor, self._run, items)
        except BaseException as error:
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(
                        error if isinstance(error, Exception) else RuntimeError("stopped")
                    )
            if not isinstance(error, Exception):
                raise
            return
        for (_, _, future), output in zip(batch, outputs, strict=True):
            if not future.done():
                future.set_result(output)
