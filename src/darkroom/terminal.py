"""Safe output on the terminal: without control characters from data or unsupported characters."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from darkroom.escape import for_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment


class _Escaping:
    """A text stream that escapes what is written to it (see ``escape.for_terminal``).

    Args:
        is_patient: ignore that the reader has gone, as after ``| head``.
    """

    def __init__(self, stream: TextIO, is_patient: bool) -> None:
        self.raw = stream
        self._is_patient = is_patient

    def write(self, text: str) -> int:
        try:
            self.raw.write(for_terminal(text))
        except BrokenPipeError:
            if not self._is_patient:
                raise
            self._discard()
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.raw.flush()
        except BrokenPipeError:
            if not self._is_patient:
                raise
            self._discard()

    def _discard(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.raw.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # click would bypass this stream if its encoding is ASCII
            raise AttributeError(name)
        return getattr(self.raw, name)


@contextmanager
def safe_output(is_patient: bool = False) -> Iterator[None]:
    """Escape what the block prints, and write unsupported characters as ``\\u65e5``.

    Args:
        is_patient: do not fail because standard output was closed.
    """
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, _Escaping):  # None if it was closed before the start
            continue
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Escaping(stream, is_patient))
    try:
        yield
    finally:
        with suppress(BrokenPipeError, ValueError):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        sys.stdout, sys.stderr = before


def make_console(stderr: bool = False) -> "Console":
    """Return a console for tables and bars that treats all text as plain, without markup or escapes."""
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        def _render_buffer(self, buffer: "Iterable[Segment]") -> str:
            return super()._render_buffer(
                part if part.control else Segment(for_terminal(part.text), part.style) for part in buffer
            )

    stream = sys.stderr if stderr else sys.stdout
    file = stream.raw if isinstance(stream, _Escaping) else stream
    return Escaping(file=file, stderr=stderr, markup=False, emoji=False, highlight=False)
