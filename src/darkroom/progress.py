"""Progress bars: a live line on a terminal, otherwise a line of text every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from darkroom.escape import for_line
from darkroom.terminal import make_console

LOG_EVERY_SECONDS = 10.0
SHORT_SECONDS = 2.0
"""Minimum duration for a final line in a log."""

Batch = TypeVar("Batch", bound=tuple[Any, ...])


class Bar:
    """A progress bar that counts images or other units."""

    def __init__(self, title: str, total: int, progress: Progress | None, unit: str = "images") -> None:
        self._title = title
        self._unit = unit
        self._total = total
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="", unit=unit) if progress else None
        self._done = 0
        self._note = ""
        self._started = self._logged = time.monotonic()

    def expect(self, num_images: int) -> None:
        """Add ``num_images`` to the total."""
        self._total += num_images
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=self._total)

    def count(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches (images first), and count their images when they have been used."""
        for batch in batches:
            yield batch
            self.advance(len(batch[0]))

    def advance(self, num_images: int) -> None:
        """Count ``num_images`` more images."""
        self._done += num_images
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, num_images)
        elif self._done and time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            rate = self._done / (self._logged - self._started)
            left = (self._total - self._done) / rate
            print(
                f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, "
                f"{_shown(rate)} {self._unit}/s, {left:,.0f} s left{self._note and ', ' + self._note}",
                file=sys.stderr,
            )

    def log_end(self) -> None:
        """Print the total time, if there is no live line."""
        seconds = time.monotonic() - self._started
        if seconds >= SHORT_SECONDS and self._done:
            print(
                f"{self._title}: {self._done:,} {self._unit} in {seconds:.1f} s, "
                f"{_shown(self._done / seconds)} {self._unit}/s",
                file=sys.stderr,
            )

    def note(self, text: str) -> None:
        """Show ``text``, for example the last loss, after the bar."""
        self._note = text
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=text)


def _shown(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            f"{_shown(speed)} {task.fields['unit']}/s" if speed else "", style="progress.data.speed"
        )


@contextmanager
def progress_bar(title: str, total: int = 0, unit: str = "images") -> Iterator[Bar]:
    """Show a bar for ``total`` images or other units on standard error while the block runs."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        bar = Bar(title, total, None, unit)
        yield bar
        bar.log_end()
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    ) as progress:
        yield Bar(for_line(title), total, progress, unit)


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show ``text`` on a terminal while the block runs."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(for_line(text))):
        yield
