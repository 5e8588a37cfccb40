"""Delay signals until the state of a training is complete and saved."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)

GRACE_SECONDS = 3.0
"""A step that takes longer is abandoned; the last checkpoint remains."""

Handler = Callable[[int, FrameType | None], Any] | int | None


class Interruption:
    """Hold back SIGTERM and Ctrl-C while the block runs, until ``check`` is called.

    They then do what they did before: the process ends with its usual status. A second signal, or a step
    that takes more than ``GRACE_SECONDS``, ends it immediately.
    """

    def __init__(self) -> None:
        self._earlier: dict[int, Handler] = {}
        self._signum: int | None = None

    @property
    def is_requested(self) -> bool:
        """Whether a signal was received."""
        return self._signum is not None

    def check(self) -> None:
        """Let a signal that was received take effect."""
        if self._signum is not None:
            self._let_through(self._signum)

    def __enter__(self) -> Self:
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # ignored, for example under nohup
                self._earlier[signum] = signal.signal(signum, self._hold_back)
        self._earlier[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: self.check())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self._earlier.items():
            signal.signal(signum, handler)
        if error is None:
            self.check()

    def _hold_back(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is not None:
            self._let_through(signum)
        self._signum = signum
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def _let_through(self, signum: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        handler = self._earlier[signum]
        signal.signal(signum, handler)
        if callable(handler):
            handler(signum, None)
        else:
            signal.raise_signal(signum)
