"""Hides secrets in everything that a process prints, including tracebacks and libraries' output."""

import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, cast

from darkroom.tracking.secrets.redaction import redact


@contextmanager
def redacted_output(with_stdout: bool = True) -> Iterator[None]:
    """Hide secrets in everything that this process prints in the block, and in its final traceback.

    Args:
        with_stdout: if False, redact standard error alone, because standard output is data for programs.
    """
    earlier = sys.stdout, sys.stderr
    if with_stdout and sys.stdout is not None:  # None if it was closed before the start
        sys.stdout = cast(TextIO, _Redacted(sys.stdout))
    if sys.stderr is not None:
        sys.stderr = cast(TextIO, _Redacted(sys.stderr))
    sys.excepthook = _print_redacted
    try:
        yield
    finally:
        sys.stdout, sys.stderr = earlier


class _Redacted:
    """A stream that hides secrets in what is written to another stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # click would bypass this stream
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        if text.endswith("\n"):  # the process may be killed
            self._stream.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def main() -> None:
    """Copy standard input to standard output without secrets; leave Ctrl-C to the writer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        print(redact(line), end="", flush=True)


def _print_redacted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    print(redact("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


if __name__ == "__main__":
    main()
