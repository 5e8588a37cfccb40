"""A run's journal: everything that was said of it, in a file that only grows, until MLflow has it.

A line is a CRC-32 in hexadecimal, a space, and JSON. What a killed process or a torn write leaves behind
is known by its checksum. A process that writes holds a lock, which ends with it however it ends:
a journal without an end whose lock is free belongs to a process that died.
"""

import hashlib
import os
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from darkroom.tracking.records import LINE, End, File, Line, Record, Start

JOURNALS = "mljournal"
"""The folder in the project's root, beside mlflow.db. It is no scratch: deleted, it is lost."""

REFUSED = "refused"
"""The folder in there for journals of which MLflow took only a part."""

CHUNK_BYTES = 1 << 20

TAIL_BYTES = 16_384
"""Of which the last line, if it is an end, is a part."""


@dataclass(frozen=True)
class Reading:
    """What is readable of a journal from some place on."""

    lines: list[Line] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """Where each line ends, in bytes."""
    end: int = 0
    """Where the last whole line ends, readable or not."""
    damage: list[str] = field(default_factory=list)
    """What could not be read, a remark a place."""


class Journal:
    """The journal in ``folder``, which also holds the spool of files and what is said of sending."""

    def __init__(self, folder: Path) -> None:
        self._place(folder)
        self._lock = FileLock(folder / "lock")

    def _place(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "journal.jsonl"
        self.spool = folder / "files"

    @classmethod
    def create(cls, root: Path, start: Start) -> "Writer":
        """Begins a journal in the project at ``root``; those that begin later sort behind it.

        It appears at once: held by this process, and with its beginning.
        """
        began = datetime.fromtimestamp(start.timestamp_ms / 1_000, UTC)
        stage = "".join(char if char.isalnum() else "_" for char in start.stage)
        folder = root / JOURNALS / f"{began:%Y%m%d-%H%M%S}-{began:%f}-{stage}-{secrets.token_hex(4)}"
        hidden = folder.with_name(f".{folder.name}")
        hidden.mkdir(parents=True)
        journal = cls(hidden)
        journal.hold()
        writer = Writer(journal)
        error = writer.append(start)
        if error:
            raise error
        hidden.rename(folder)
        journal._place(folder)
        return writer

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def size(self) -> int:
        """Bytes of the journal; 0 where there is none (any more)."""
        try:
            return self.file.stat().st_size
        except OSError:
            return 0

    def hold(self, seconds: float = 0.0) -> bool:
        """Takes the lock; False where another process keeps it for ``seconds``, or nothing is there."""
        if not self.file.exists() and not self.folder.name.startswith("."):
            return False
        try:
            self._lock.acquire(timeout=seconds)
        except (Timeout, OSError):
            return False
        return True

    def release(self) -> None:
        self._lock.release()

    def read(self, offset: int = 0) -> Reading:
        """Reads the whole lines from ``offset`` on. A last line without its end is left for later."""
        try:
            with self.file.open("rb") as file:
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return Reading(end=offset)
        lines, offsets, damage = [], [], []
        position = offset
        for raw in content.split(b"\n")[:-1]:
            position += len(raw) + 1
            line = _parse(raw)
            if line is None:
                damage.append(f"{self.name}: {len(raw)} bytes before byte {position} are damaged")
            else:
                lines.append(line)
                offsets.append(position)
        return Reading(lines, offsets, position, damage)

    def start(self) -> Start:
        """Returns how the run began; where that is unreadable, what the folder's name tells of it."""
        try:
            with self.file.open("rb") as file:
                line = _parse(file.readline().removesuffix(b"\n"))
        except OSError:
            line = None
        if line and isinstance(line.record, Start):
            return line.record
        date, clock, micros, stage, _ = (*self.name.split("-"), "", "", "", "", "")[:5]
        try:
            began = datetime.strptime(f"{date}{clock}{micros}+0000", "%Y%m%d%H%M%S%f%z").timestamp()
        except ValueError:
            began = time.time()
        return Start(
            stage=stage or "unknown",
            name=f"{stage or 'unknown'} (damaged journal)",
            tags={"stage": stage or "unknown", "journal": "damaged"},
            destination="",
            address="",
            timestamp_ms=int(1_000 * began),
        )

    def end(self) -> End | None:
        """Returns how the run ended, if that is the last thing said."""
        try:
            with self.file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                *_, last, rest = [b"", *file.read().split(b"\n")]
        except (OSError, ValueError):
            return None
        line = _parse(last) if not rest else None
        return line.record if line and isinstance(line.record, End) else None

    def spooled(self, file: File) -> Path:
        """Returns where the copy of ``file`` lies, under the file's own name."""
        return self.spool / file.sha256 / Path(file.path).name

    def remove(self) -> None:
        """Deletes the journal and its spool."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Writer:
    """Appends to a journal whose lock this process holds.

    Writing fails only in memory: what the disk does not take (it may be full) waits for the next line.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._mutex = threading.Lock()
        reading = journal.read()
        self._number = max((line.number for line in reading.lines), default=-1) + 1
        self._file = os.open(journal.file, os.O_WRONLY | os.O_CREAT, 0o644)
        self._end = journal.size
        self._waiting: list[bytes] = []
        if self._end > reading.end:  # closes the line that a killed process left half written
            self._waiting.append(b"\n")

    def append(self, record: Record, maker: str | None = None) -> OSError | None:
        """Appends a line; returns what keeps it, and those before it, from the disk."""
        with self._mutex:
            line = Line(number=self._number, maker=maker, record=record)
            self._number += 1
            self._waiting.append(_format(line))
            return self._write()

    def keep(self, path: Path, source: Path | None = None) -> File:
        """Copies a file into the spool.

        Args:
            path: what it is to be called.
            source: where it lies, if not there.

        Raises:
            OSError: it cannot be read, or there is no space.
        """
        source = source or path
        self.journal.spool.mkdir(exist_ok=True)
        copy = self.journal.spool / secrets.token_hex(8)
        sha256 = hashlib.sha256()
        try:
            with source.open("rb") as original, copy.open("wb") as file:
                while chunk := original.read(CHUNK_BYTES):
                    sha256.update(chunk)
                    file.write(chunk)
            kept = File(path=path.as_posix(), sha256=sha256.hexdigest(), size=copy.stat().st_size)
            target = self.journal.spooled(kept)
            target.parent.mkdir(exist_ok=True)
            copy.replace(target)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        return kept

    def close(self) -> OSError | None:
        """Makes the journal durable; returns what could not be written."""
        with self._mutex:
            error = self._write()
            try:
                os.fsync(self._file)
            except OSError as failure:
                error = error or failure
            os.close(self._file)
            return error

    def _write(self) -> OSError | None:
        while self._waiting:
            raw = self._waiting[0]
            try:
                os.lseek(self._file, self._end, os.SEEK_SET)
                written = os.write(self._file, raw)
                while written < len(raw):
                    written += os.write(self._file, raw[written:])
            except OSError as error:
                os.ftruncate(self._file, self._end)
                return error
            self._end += len(raw)
            self._waiting.pop(0)
        return None


def journals(root: Path) -> Iterator[Journal]:
    """Yields the journals of the project at ``root``, the oldest first."""
    try:
        folders = sorted(path for path in (root / JOURNALS).iterdir() if path.is_dir())
    except OSError:
        return
    yield from (Journal(folder) for folder in folders if folder.name[:1].isdigit())


def close_dead(journal: Journal) -> bool:
    """Ends the journal of a process that died as KILLED; False while that process lives."""
    if not journal.hold():
        return False
    try:
        if journal.end() is None:
            times = [_time_ms(line) for line in journal.read().lines if line.maker is None]
            last = max(times, default=0) or journal.start().timestamp_ms
            writer = Writer(journal)
            writer.append(End(status="KILLED", error="the process died", timestamp_ms=last))
            if error := writer.close():
                raise error
        return True
    finally:
        journal.release()


def _time_ms(line: Line) -> int:
    return getattr(line.record, "timestamp_ms", 0)


def _format(line: Line) -> bytes:
    content = line.model_dump_json().encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _parse(raw: bytes) -> Line | None:
    checksum, _, content = raw.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        return None
    try:
        return LINE.validate_json(content)
    except ValidationError:  # of another version of darkroom
        return None
