"""Checkpoints: states of a training on disk, from which it resumes whenever it was interrupted.

The name of a file holds the position in the training and the SHA-256 of its bytes. A file is written
under a temporary name, flushed to disk and renamed, so a file under its final name is either complete or
has another checksum. The last two are kept.
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
from typing import Any, BinaryIO, Self, cast

import torch
from torch import Tensor

from darkroom.digests import HashingFile
from darkroom.training.interruption import Interruption
from darkroom.training.state import TrainingState

NUM_KEPT = 2

NUM_OTHERS = 3
"""Number of other trainings whose checkpoints are kept."""

MAX_SHARE = 0.01
"""Maximum share of the time that is spent on saving; states of little work are not saved."""

_NAME = re.compile(r"(\d{6})-(\d{8})-([0-9a-f]{64})\.pt")


def scratch_folder(root: Path, *parts: str) -> Path:
    """Return the folder in ``root`` for the training whose result depends on ``parts`` alone.

    The same parts give the same folder. Of the folders that other, killed trainings left behind, the
    oldest are removed.
    """
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    others = [path for path in root.glob("*/") if path.name != name]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-NUM_OTHERS]:
        shutil.rmtree(old, ignore_errors=True)
    return root / name


class Checkpoints:
    """The checkpoints of one training, in a folder of its own.

    Args:
        interval_seconds: maximum time between two checkpoints; each epoch's end may add one.
        interruption: if one is requested, the next state is saved and the process ends.
    """

    def __init__(self, folder: Path, interval_seconds: float, interruption: Interruption) -> None:
        self._interruption = interruption
        self.folder = folder
        self._interval_seconds = interval_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[float] | None = None
        self._saved_at = time.monotonic()
        self._cost_seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, state: TrainingState) -> bool:
        """Restore ``state`` from the newest undamaged file; return whether there is one."""
        for path in reversed(_found(self.folder)):
            if (values := _load(path)) is not None:
                state.restore(values)
                return True
            print(f"train: {path}: damaged, ignored", file=sys.stderr)
            path.unlink(missing_ok=True)
        return False

    @property
    def newest(self) -> Path | None:
        """The newest file, or None."""
        self._collect(wait=True)
        found = _found(self.folder)
        return found[-1] if found else None

    def is_due(self, epoch_ended: bool = False) -> bool:
        """Return whether a state should be saved now."""
        if self._interruption.is_requested:
            return True
        self._collect(wait=False)
        seconds = time.monotonic() - self._saved_at
        is_cheap = self._cost_seconds <= MAX_SHARE * seconds
        return self._writing is None and is_cheap and (epoch_ended or seconds >= self._interval_seconds)

    def save(self, state: TrainingState) -> None:
        """Copy ``state`` off the device and write it in the background.

        If it cannot be written (the disk is full), a warning is printed and the training continues.
        """
        self._collect(wait=True)
        began = time.monotonic()
        values = copied(state.to_dict())
        self._saved_at = time.monotonic()
        self._cost_seconds = self._saved_at - began
        self._writing = self._writer.submit(_write, self.folder, state.epoch, state.step, values)
        if self._interruption.is_requested:
            self._collect(wait=True)
            self._interruption.check()

    def remove(self) -> None:
        """Remove all checkpoints, once the results of the training are written."""
        self._collect(wait=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _collect(self, wait: bool) -> None:
        """Take the outcome of the last write, if there is one."""
        if self._writing is None or not (wait or self._writing.done()):
            return
        writing, self._writing = self._writing, None
        try:
            self._cost_seconds += writing.result()
        except OSError as error:
            print(
                f"train: no checkpoint could be saved in {self.folder} ({error.strerror or error}); "
                "the training continues",
                file=sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the last checkpoint is written."""
        self._collect(wait=True)
        self._writer.shutdown()


def _found(folder: Path) -> list[Path]:
    """Return the files of checkpoints, the newest last."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _load(path: Path) -> dict[str, Any] | None:
    """Return the content of a file, or None if it is damaged."""
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
    except pickle.UnpicklingError:  # something other than values and tensors, so not written here
        return None


def copied(value: Any) -> Any:
    """Return nested values with each tensor copied to the CPU."""
    if isinstance(value, Tensor):
        return value.to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(part) for part in value)
    return value


def _write(folder: Path, epoch: int, step: int, values: dict[str, Any]) -> float:
    """Write a state and remove all but the last two; return the CPU seconds this took.

    Raises:
        OSError: the state could not be written; earlier ones are left as they were.
    """
    began = time.thread_time()
    part = folder / "state.part"
    try:
        with part.open("wb", buffering=0) as file:
            sink = HashingFile(file)
            try:
                torch.save(values, cast(BinaryIO, sink))
            except RuntimeError:  # torch raises it instead of the sink's own error
                raise sink.error or OSError("torch.save failed") from None
            os.fsync(file.fileno())
        os.replace(part, folder / f"{epoch:06d}-{step:08d}-{sink.digest.sha256}.pt")
        _flush(folder)
    except OSError:
        part.unlink(missing_ok=True)  # the disk may be full
        raise
    for old in _found(folder)[:-NUM_KEPT]:
        old.unlink()
    return time.thread_time() - began


def _flush(folder: Path) -> None:
    """Flush ``folder``, so that a new name survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
