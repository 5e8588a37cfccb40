"""Saved states: whatever the disk does, and whenever a signal comes, one that is whole is found."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.training import checkpoint, interruption
from darkroom.training.checkpoint import Checkpoints, scratch_folder
from darkroom.training.interruption import Interruption


class Weights:
    """Stands for a training: tensors of several kinds, and a position."""

    def __init__(self, value: float = 0.0, epoch: int = 0, step: int = 0) -> None:
        self.epoch = epoch
        self.step = step
        self.tensors = {
            "weight": torch.full((4, 3, 2, 2), float(value)).to(memory_format=torch.channels_last),
            "bias": torch.full((4,), float(value)),
            "count": torch.tensor(int(value)),
            "nothing": torch.zeros(0),
        }

    def to_dict(self) -> dict[str, Any]:
        return {"tensors": self.tensors, "position": (self.epoch, self.step), "name": None, "lr": 0.1}

    def restore(self, values: dict[str, Any]) -> None:
        assert values["name"] is None
        assert values["lr"] == 0.1
        self.epoch, self.step = values["position"]
        self.tensors = values["tensors"]

    @property
    def value(self) -> float:
        """The one number that all tensors hold."""
        [value] = {float(x) for tensor in self.tensors.values() for x in tensor.flatten()}
        return value


@pytest.fixture(autouse=True)
def save_at_any_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_SHARE", float("inf"))


def checkpoints_in(folder: Path, interval_seconds: float = 0) -> Checkpoints:
    return Checkpoints(folder, interval_seconds, Interruption())


def save(folder: Path, *states: Weights) -> None:
    with checkpoints_in(folder) as checkpoints:
        for state in states:
            checkpoints.save(state)


def restored(folder: Path) -> Weights | None:
    state = Weights()
    return state if checkpoints_in(folder).restore(state) else None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# what is saved is found again


def test_the_newest_of_two_is_found_and_earlier_ones_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    assert restored(folder) is None
    save(folder, *(Weights(10 * epoch + step, epoch, step) for epoch in (0, 1) for step in (3, 20, 100)))
    assert [name[:15] for name in names(folder)] == ["000001-00000020", "000001-00000100"]
    state = restored(folder)
    assert state is not None
    assert (state.epoch, state.step, state.value) == (1, 100, 110)
    assert state.tensors["weight"].is_contiguous(memory_format=torch.channels_last)
    assert [tensor.dtype for tensor in state.tensors.values()] == [
        tensor.dtype for tensor in Weights().tensors.values()
    ]


def test_newest_waits_for_what_is_being_written(tmp_path: Path) -> None:
    with checkpoints_in(tmp_path) as checkpoints:
        assert checkpoints.newest is None
        for step in (1, 2):
            checkpoints.save(Weights(step=step))
            assert checkpoints.newest is not None
            assert checkpoints.newest.name.startswith(f"000000-0000000{step}-")


def test_the_same_state_has_the_same_name_and_bytes(tmp_path: Path) -> None:
    save(tmp_path, Weights(1), Weights(1))
    assert len(names(tmp_path)) == 1
    save(tmp_path, Weights(2))
    assert len(names(tmp_path)) == 2


def test_what_changes_while_a_state_is_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = threading.Event()
    write = checkpoint._write
    monkeypatch.setattr(checkpoint, "_write", lambda *values: changed.wait(10) and write(*values))
    state = Weights(1)
    with checkpoints_in(tmp_path) as checkpoints:
        checkpoints.save(state)
        assert not checkpoints.is_due()  # one is on its way
        for tensor in state.tensors.values():
            tensor.fill_(2)
        state.tensors["another"] = torch.zeros(1)
        changed.set()
    saved = restored(tmp_path)
    assert saved is not None
    assert saved.value == 1
    assert state.tensors["bias"].tolist() == [2] * 4


def test_a_removed_folder_is_gone_with_what_was_being_written(tmp_path: Path) -> None:
    with checkpoints_in(tmp_path / "scratch") as checkpoints:
        checkpoints.save(Weights())
        checkpoints.remove()
    assert names(tmp_path) == []


# where it is saved


def test_a_training_finds_its_own_folder_and_no_other(tmp_path: Path) -> None:
    parts = ("code and params", "data", "environment", "64")
    folder = scratch_folder(tmp_path, *parts)
    assert folder == scratch_folder(tmp_path, *parts)
    others = {scratch_folder(tmp_path, *parts[:i], f"{parts[i]}0", *parts[i + 1 :]) for i in range(4)}
    others |= {scratch_folder(tmp_path, "code and paramsdata", "", *parts[2:])}
    assert len(others | {folder}) == 6


def test_of_other_trainings_the_latest_few_are_left(tmp_path: Path) -> None:
    assert scratch_folder(tmp_path / "not there", "mine").parent == tmp_path / "not there"
    mine = scratch_folder(tmp_path, "mine")
    for age, folder in enumerate([*(tmp_path / f"other{i}" for i in range(6)), mine]):
        save(folder, Weights())
        os.utime(folder, (1e9 - age, 1e9 - age))
    (tmp_path / "a file").touch()
    assert scratch_folder(tmp_path, "mine") == mine
    assert names(tmp_path) == sorted(["a file", "other0", "other1", "other2", mine.name])
    assert restored(mine) is not None


# when it is saved


class Clock:
    """Stands for ``time.monotonic``."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(checkpoint, "MAX_SHARE", 0.01)
    return clock


class Costly(Weights):
    """Takes some seconds to copy."""

    def __init__(self, clock: Clock, seconds: float, step: int = 0) -> None:
        super().__init__(step=step)
        self._clock = clock
        self._seconds = seconds

    def to_dict(self) -> dict[str, Any]:
        self._clock.now += self._seconds
        return super().to_dict()


def test_a_state_is_due_after_the_interval_and_at_the_end_of_an_epoch(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    with checkpoints_in(tmp_path, 60) as checkpoints:
        for _ in range(2):
            assert not checkpoints.is_due()
            clock.now += 59.9
            assert not checkpoints.is_due()
            assert checkpoints.is_due(epoch_ended=True)
            clock.now += 0.2
            assert checkpoints.is_due()
            checkpoints.save(Weights())
            assert checkpoints.newest is not None  # it is written


@pytest.mark.parametrize("cost", ["copying", "writing"])
def test_saving_takes_at_most_a_hundredth_of_the_time(
    cost: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_seconds = iter([0.0, 2.0 if cost == "writing" else 0.0])
    monkeypatch.setattr(time, "thread_time", lambda: next(cpu_seconds))
    with checkpoints_in(tmp_path, 60) as checkpoints:
        assert checkpoints.is_due(epoch_ended=True)  # of the cost nothing is known yet
        checkpoints.save(Costly(clock, 2.0 if cost == "copying" else 0.0))
        assert checkpoints.newest is not None  # it is written
        clock.now += 199
        assert not checkpoints.is_due()
        assert not checkpoints.is_due(epoch_ended=True)
        clock.now += 2
        assert checkpoints.is_due()
        assert checkpoints.is_due(epoch_ended=True)


def test_a_failed_save_is_tried_again_after_the_interval_only(
    tmp_path: Path, clock: Clock, disk: "FaultyDisk", capfd: pytest.CaptureFixture[str]
) -> None:
    disk.fail_at(0, "ENOSPC")
    with checkpoints_in(tmp_path, 60) as checkpoints:
        checkpoints.save(Weights())
        assert checkpoints.newest is None
        assert not checkpoints.is_due()
        clock.now += 61
        assert checkpoints.is_due()
    assert capfd.readouterr().err.count("No space left") == 1


# a disk that fails


class FaultyDisk:
    """Counts the calls with which a state is written, and lets one of them fail.

    A fault is the name of an error; ``short`` writes half, ``short ENOSPC`` half, and then fails.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._failing = -1
        self._fault = ""
        for target, name in ((os, "open"), (os, "fsync"), (os, "replace"), (Path, "unlink")):
            monkeypatch.setattr(target, name, self._counted(name, getattr(target, name)))
        disk = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                return disk._write(super().write, data)

            def close(self) -> None:
                was_open = not self.closed
                super().close()
                if was_open:
                    disk._call("close")

        path_open = Path.open

        def opened(path: Path, mode: str, buffering: int = -1) -> Any:
            if mode == "rb":
                return path_open(path, mode)
            assert (mode, buffering) == ("wb", 0)  # each write reaches the system
            disk._call("create")
            return File(path, mode)

        monkeypatch.setattr(Path, "open", opened)

    def fail_at(self, call: int, fault: str) -> None:
        """Lets the call of that index, counted from now, fail."""
        self.calls.clear()
        self._failing, self._fault = call, fault

    def _call(self, name: str) -> bool:
        self.calls.append(name)
        if len(self.calls) - 1 != self._failing:
            return False
        if self._fault.startswith("short"):
            return True
        raise self._error(self._fault)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            self._call(name)
            return function(*values, **named)

        return call

    def _write(self, write: Callable[[Any], int], data: Any) -> int:
        if self._call("write"):
            num_written = write(data[: len(data) // 2])
            if self._fault != "short":
                self._failing += 1  # what follows is the rest
                self._fault = self._fault.removeprefix("short ")
            return num_written
        return write(data)

    @staticmethod
    def _error(name: str) -> OSError:
        number = getattr(errno, name)
        return OSError(number, os.strerror(number))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    return FaultyDisk(monkeypatch)


FAULTS = {
    "create": ["ENOSPC", "EIO", "EMFILE", "EROFS"],
    "write": ["ENOSPC", "EIO", "EDQUOT", "short", "short ENOSPC"],
    "fsync": ["ENOSPC", "EIO"],
    "close": ["EDQUOT", "EIO"],
    "replace": ["ENOSPC", "EIO"],
    "open": ["EMFILE", "EIO"],
    "unlink": ["EIO", "EROFS"],
}
"""By the call in which they happen; ``open`` is that of the folder."""


def num_kept_after(folder: Path, disk: FaultyDisk, call: int, fault: str) -> int:
    """Saves three states, the third with a fault, and a fourth; tells which is found in between."""
    with checkpoints_in(folder) as checkpoints:
        for step in (1, 2, 3):
            disk.fail_at(call if step == 3 else -1, fault)
            checkpoints.save(Weights(step, step=step))
            checkpoints._collect(wait=True)
        found = restored(folder)
        assert found is not None
        assert found.value == found.step
        step = found.step
        disk.fail_at(-1, "")
        checkpoints.save(Weights(4, step=4))
    found = restored(folder)
    assert found is not None
    assert found.value == found.step == 4
    assert len(names(folder)) == 2, names(folder)
    shutil.rmtree(folder)
    return step


@pytest.mark.slow
def test_whichever_call_of_a_save_fails_the_state_before_is_found_and_the_next_is_saved(
    tmp_path: Path, disk: FaultyDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    disk.fail_at(-1, "")
    save(tmp_path / "count", *(Weights(step, step=step) for step in (1, 2)))
    disk.fail_at(-1, "")
    save(tmp_path / "count", Weights(3, step=3))
    calls = list(disk.calls)
    assert set(calls) == set(FAULTS)
    assert calls[-6:] == ["fsync", "close", "replace", "open", "fsync", "unlink"]  # in this order
    shutil.rmtree(tmp_path / "count")

    outcomes: dict[tuple[int, str], tuple[str, int]] = {}
    for index, call in enumerate(calls):
        for fault in FAULTS[call]:
            step = num_kept_after(tmp_path / "faulty", disk, index, fault)
            outcomes[index, fault] = (call, step)
            errors = capfd.readouterr().err
            if fault == "short":
                assert step == 3
                assert errors == ""
            else:
                assert errors.count("\n") == 1, (call, fault, errors)
                assert f"no checkpoint could be saved in {tmp_path / 'faulty'}" in errors
                assert os.strerror(getattr(errno, fault.removeprefix("short "))) in errors
                assert "the training continues" in errors
    assert len(outcomes) > 50
    # up to the renaming nothing of the new state is there; from then on it is whole
    renamed = calls.index("replace")
    for (index, fault), (call, step) in outcomes.items():
        assert step == (2 if index <= renamed and fault != "short" else 3), (call, index, fault)


def test_a_device_that_is_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    save(tmp_path, Weights(1, step=1))
    (tmp_path / "state.part").symlink_to("/dev/full")
    save(tmp_path, Weights(2, step=2))
    assert os.strerror(errno.ENOSPC) in capfd.readouterr().err
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 1
    save(tmp_path, Weights(3, step=3))
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 3


def test_files_that_the_system_does_not_let_grow(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    save(tmp_path, Weights(1, step=1))
    size = next(tmp_path.iterdir()).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (size // 2, size - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            save(tmp_path, Weights(2, step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr().err.count(os.strerror(errno.EFBIG)) == 2
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 1
    assert len(names(tmp_path)) == 1
    save(tmp_path, Weights(3, step=3))
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 3


def test_a_folder_that_is_gone_costs_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with checkpoints_in(tmp_path / "scratch") as checkpoints:
        (tmp_path / "scratch").rmdir()
        checkpoints.save(Weights())
    assert os.strerror(errno.ENOENT) in capfd.readouterr().err


# files that are damaged


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields what a loss of power or a bad disk can make of a file."""
    for length in [*range(0, len(content), max(len(content) // 60, 1)), len(content) - 1]:
        yield f"cut at {length}", content[:length]
        if any(content[length:]):
            yield f"zeros from {length}", content[:length] + bytes(len(content) - length)
        flipped = bytearray(content)
        flipped[length] ^= 1 << length % 8
        yield f"flipped bit in byte {length}", bytes(flipped)
    yield "a byte more", content + b"\0"


def test_a_damaged_state_is_named_and_the_one_before_is_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, Weights(1, step=1), Weights(2, step=2))
    newest = checkpoints_in(tmp_path).newest
    assert newest is not None
    content = newest.read_bytes()
    num_damaged = 0
    for how, bad in damaged(content):
        assert bad != content, how
        newest.write_bytes(bad)
        state = restored(tmp_path)
        assert state is not None
        assert state.value == 1, how
        assert capfd.readouterr().err == f"train: {newest}: damaged, ignored\n"
        assert not newest.exists()
        num_damaged += 1
    assert num_damaged > 150
    newest.write_bytes(content)
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 2
    assert capfd.readouterr().err == ""


def test_where_all_states_are_damaged_the_training_begins_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, Weights(1, step=1), Weights(2, step=2))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert restored(tmp_path) is None
    assert capfd.readouterr().err.count("damaged") == 2
    save(tmp_path, Weights(1, step=1))
    assert restored(tmp_path) is not None


def test_a_part_of_a_file_and_files_of_others_are_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, Weights(1, step=1))
    content = next(tmp_path.iterdir()).read_bytes()
    for name in ("state.part", f"999999-99999999-{'0' * 63}.pt", "999999.pt"):
        (tmp_path / name).write_bytes(content[:-1])
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 1
    assert capfd.readouterr().err == ""
    save(tmp_path, Weights(2, step=2))  # over the part of a file
    state = restored(tmp_path)
    assert state is not None
    assert state.value == 2


class Unsafe:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_not_used_whatever_its_checksum_says(
    container: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "states"
    save(folder, Weights(1, step=1))
    buffer = io.BytesIO()
    values = {**Weights(2, step=2).to_dict(), "name": Unsafe(tmp_path / "code was run")}
    if container == "torch":
        torch.save(values, buffer)
    else:
        pickle.dump(values, buffer, protocol=2)
    content = buffer.getvalue()
    (folder / f"000000-00000002-{hashlib.sha256(content).hexdigest()}.pt").write_bytes(content)
    state = restored(folder)
    assert state is not None
    assert state.value == 1
    assert "000000-00000002" in capfd.readouterr().err
    assert names(tmp_path) == ["states"]
    torch.load(io.BytesIO(content), weights_only=False) if container == "torch" else pickle.loads(
        content
    )
    assert names(tmp_path) == ["code was run", "states"]  # it would have been


# signals


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that got through to the handlers that were there before."""
    heard: list[int] = []
    signals = (*interruption.SIGNALS, signal.SIGALRM)
    earlier = [
        signal.signal(signum, lambda signum, _: heard.append(signum)) for signum in interruption.SIGNALS
    ]
    earlier.append(signal.getsignal(signal.SIGALRM))
    yield heard
    for signum, handler in zip(signals, earlier, strict=True):
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", interruption.SIGNALS)
def test_a_signal_waits_for_the_next_state(signum: int, tmp_path: Path, heard: list[int]) -> None:
    before = signal.getsignal(signum)
    with Interruption() as asked, Checkpoints(tmp_path, 1e9, asked) as checkpoints:
        assert not checkpoints.is_due()
        signal.raise_signal(signum)
        assert asked.is_requested
        assert heard == []
        assert checkpoints.is_due()
        checkpoints.save(Weights(5, step=5))
        assert heard == [signum]
        state = restored(tmp_path)  # it was written by then
        assert state is not None
        assert state.value == 5
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signum) is before


def test_a_signal_gets_through_also_where_the_disk_is_full(
    tmp_path: Path, heard: list[int], disk: FaultyDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    disk.fail_at(0, "ENOSPC")
    with Interruption() as asked, Checkpoints(tmp_path, 1e9, asked) as checkpoints:
        signal.raise_signal(signal.SIGTERM)
        checkpoints.save(Weights())
        assert heard == [signal.SIGTERM]
    assert "No space left" in capfd.readouterr().err


def test_a_signal_after_the_last_state_gets_through_at_the_end(heard: list[int]) -> None:
    with Interruption():
        signal.raise_signal(signal.SIGINT)
        assert heard == []
    assert heard == [signal.SIGINT]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_error_is_not_hidden_by_a_signal(heard: list[int]) -> None:
    def fail() -> None:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert heard == []


def test_without_a_signal_nothing_happens(heard: list[int]) -> None:
    with Interruption() as asked:
        asked.check()
        assert not asked.is_requested
    assert heard == []


def test_a_second_signal_gets_through_at_once(heard: list[int]) -> None:
    with Interruption():
        signal.raise_signal(signal.SIGTERM)
        assert heard == []
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]


def test_a_step_that_takes_too_long_is_given_up(
    heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interruption, "GRACE_SECONDS", 0.02)
    with Interruption():
        signal.raise_signal(signal.SIGTERM)
        while not heard:
            time.sleep(0.001)
    assert heard[0] == signal.SIGTERM


def test_a_signal_that_is_ignored_stays_ignored(heard: list[int], tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or behind a shell's &
    with Interruption() as asked:
        signal.raise_signal(signal.SIGINT)
        assert not asked.is_requested
        signal.raise_signal(signal.SIGTERM)
        assert asked.is_requested
    assert heard == [signal.SIGTERM]


def test_a_handler_of_the_systems_gets_its_signal(tmp_path: Path) -> None:
    code = (
        "import signal\n"
        "from darkroom.training.interruption import Interruption\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "with Interruption() as asked:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('waits', flush=True)\n"
        "    asked.check()\n"
        "    print('not reached', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("waits\n", -signal.SIGTERM), done.stderr
