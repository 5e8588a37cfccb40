"""Files that take long are named; what takes for ever is stopped, and named too."""

import os
import signal
import time
from pathlib import Path

import pytest

from darkroom.decoding import watch as watch_module
from darkroom.decoding.watch import Watch, name_if_slow, watching
from darkroom.errors import UserError
from darkroom.parallel import ordered_map


def burn(seconds: float) -> None:
    started = time.thread_time()
    while time.thread_time() - started < seconds:
        pass


class Work:
    """In a worker process: burns time on the file called ``slow``, or dies on the one called ``bad``."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __call__(self, name: str) -> str:
        watch_module.MAX_SECONDS = 0.3
        with self.watch.on(name):
            if name == "slow":
                burn(60)
            if name == "bad":
                os.kill(os.getpid(), signal.SIGSEGV)
        return name


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_without_end_stops_the_stage_and_is_named(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "MAX_SECONDS", 0.3)
    with (
        pytest.raises(UserError, match=r"^data\.path: slow takes over 0 s of CPU time"),
        watching() as watch,
    ):
        list(ordered_map(Work(watch), ["a", "b", "slow", "c"], workers))
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_a_decoder_that_crashes_is_named_with_its_file() -> None:
    with (
        pytest.raises(UserError, match=r"worker process was killed.* It was reading .*bad"),
        watching() as watch,
    ):
        list(ordered_map(Work(watch), ["a", "bad"], 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_other_files_are_done_and_leave_nothing(workers: int) -> None:
    with watching() as watch:
        assert list(ordered_map(Work(watch), "abcdefgh", workers)) == list("abcdefgh")
        folder: Path = watch.folder
    assert not folder.exists()


def test_a_slow_file_is_named_without_its_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "SLOW_SECONDS", 0.2)  # some kernels count 10 ms at a time
    with name_if_slow("slow\x1b[31m\n"):
        burn(0.3)
    with name_if_slow("quick"):
        time.sleep(0.3)  # a slow disk is not the file's fault
    assert capsys.readouterr().err == "slow\\x1b[31m\\n: took 0 s to decode\n"
