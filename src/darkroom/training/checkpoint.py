"""States of a training on disk, from which it goes on after any end.

A file's name holds the position it was saved at and the SHA-256 of its bytes. It is written under
another name, flushed to the disk and renamed, so a file with its final name is whole, or its checksum
says that it is not. The last two are kept.
"""

import hashlib
import io
import os
import pickle
import re
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import torch
from torch import Tensor

from darkroom.digests import HashingFile
from darkroom.training.interruption import Interruption
from darkroom.training.state import TrainingState

NUM_KEPT = 2

NUM_OTHERS = 3
"""States of other trainings that are kept."""

LARGEST_SHARE = 0.01
"""Saving takes at most so much of the time: states of little work are not saved."""

_NAME = re.compile(r"(\d{6})-(\d{8})-([0-9a-f]{64})\.pt")


def scratch_folder(root: Path, *parts: str) -> Path:
    """Returns the folder in ``root`` for a training that depends on ``parts`` and on nothing else.

    The same training finds it again, and any other does not. Of what other trainings left behind when
    they were killed, the latest few are kept.
    """
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    others = [path for path in root.glob("*/") if path.name != name]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-NUM_OTHERS]:
        shutil.rmtree(old, ignore_errors=True)
    return root / name


class Checkpoints:
    """The saved states of one training, in a folder of its own.

    Args:
        interval_seconds: longest time between two states, beside those at the end of each epoch.
        interruption: where it is asked for, the next state is saved and the process ended.
    """

    def __init__(self, folder: Path, interval_seconds: float, interruption: Interruption) -> None:
        self._interruption = interruption
        self._folder = folder
        self._interval_seconds = interval_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[float] | None = None
        self._saved_at = time.monotonic()
        self._cost_seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, state: TrainingState) -> bool:
        """Brings ``state`` to where the newest sound file was saved; tells whether there is one."""
        for path in reversed(_found(self._folder)):
            if (values := _load(path)) is not None:
                state.restore(values)
                return True
            print(f"train: {path}: damaged, not used", file=sys.stderr)
            path.unlink(missing_ok=True)
        return False

    @property
    def newest(self) -> Path | None:
        """The file of the newest state."""
        self._collect(wait=True)
        found = _found(self._folder)
        return found[-1] if found else None

    def is_due(self, epoch_ended: bool = False) -> bool:
        """Whether a state should be saved now."""
        if self._interruption.is_asked_for:
            return True
        self._collect(wait=False)
        seconds = time.monotonic() - self._saved_at
        is_cheap = self._cost_seconds <= LARGEST_SHARE * seconds
        return self._writing is None and is_cheap and (epoch_ended or seconds >= self._interval_seconds)

    def save(self, state: TrainingState) -> None:
        """Copies ``state`` off the device, and writes it while the training goes on.

        A state that cannot be written (a full disk) costs a line of warning, not the training.
        """
        self._collect(wait=True)
        began = time.monotonic()
        values = _copied(state.to_dict())
        self._saved_at = time.monotonic()
        self._cost_seconds = self._saved_at - began
        self._writing = self._writer.submit(_write, self._folder, state.epoch, state.step, values)
        if self._interruption.is_asked_for:
            self._collect(wait=True)
            self._interruption.check()

    def remove(self) -> None:
        """Removes all states: the training is over, and its results are written."""
        self._collect(wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _collect(self, wait: bool) -> None:
        """Takes note of how the last write ended."""
        if self._writing is None or not (wait or self._writing.done()):
            return
        writing, self._writing = self._writing, None
        try:
            self._cost_seconds += writing.result()
        except OSError as error:
            print(
                f"train: the state could not be saved in {self._folder} ({error.strerror or error}); "
                "training goes on",
                file=sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for what is being written."""
        self._collect(wait=True)
        self._writer.shutdown()


def _found(folder: Path) -> list[Path]:
    """Returns the files of states, the newest last."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _load(path: Path) -> dict[str, Any] | None:
    """Returns what a file holds, or None if it is not what was written."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != match[3]:
        return None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # holds more than values and tensors: nobody's here
        return None


def _copied(value: Any) -> Any:
    """Returns nested values with a copy of each tensor, on the CPU."""
    if isinstance(value, Tensor):
        return value.to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    return value


def _write(folder: Path, epoch: int, step: int, values: dict[str, Any]) -> float:
    """Writes a state, and removes those before the last one. Returns the CPU seconds it took.

    Raises:
        OSError: it could not be written. Earlier states are as they were.
    """
    began = time.thread_time()
    part = folder / "state.part"
    try:
        with part.open("wb", buffering=0) as file:
            sink = HashingFile(file)
            try:
                torch.save(values, cast(BinaryIO, sink))
            except RuntimeError:  # torch raises one in place of what the sink had raised
                raise sink.error or OSError("torch.save failed") from None
            os.fsync(file.fileno())
        os.replace(part, folder / f"{epoch:06d}-{step:08d}-{sink.digest.sha256}.pt")
        _flush(folder)
    except OSError:
        part.unlink(missing_ok=True)  # of a full disk
        raise
    for old in _found(folder)[:-NUM_KEPT]:
        old.unlink()
    return time.thread_time() - began


def _flush(folder: Path) -> None:
    """Makes a new name in ``folder`` outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
