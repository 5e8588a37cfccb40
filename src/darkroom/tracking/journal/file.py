"""A run's journal: everything that was said of it, in a file that only grows, until MLflow has it.

A line is a CRC-32 in hexadecimal, a space, and JSON. What a killed process or a torn write leaves behind
is known by its checksum. A process that writes holds a lock, which ends with it however it ends:
a journal without an end whose lock is free belongs to a process that died.
"""

import hashlib
import os
import re
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.tracking.journal.private import FILE_MODE, open_private, private_folder, private_opener
from darkroom.tracking.records import End, File, Model, Record, Start

JOURNALS = "mljournal"
"""The folder in the project's root, beside mlflow.db. It is no scratch: deleted, it is lost."""

REFUSED = "refused"
"""The folder in there for journals of which MLflow took only a part."""

CHUNK_BYTES = 1 << 20

TAIL_BYTES = 16_384
"""Of which the last line, if it is an end, is a part."""

LENGTH_OF_ERROR = 2_000
"""In characters: as much as leaves an end shorter than that, however JSON writes it."""

LEFTOVER_SECONDS = 3_600
"""So old is a hidden folder that a killed process left."""

_NAME = re.compile(r"\d{8}-\d{6}-\d{6}-(?P<stage>\w+)-(?P<destination>[0-9a-f]*)-[0-9a-f]{8}")
_BEGAN = "%Y%m%d-%H%M%S-%f"


class Line(BaseModel):
    """A line of a journal."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    number: int
    """Counts the lines from 0, so that a missing one is noticed."""
    producer: str | None = None
    """The record is for the run that produced this artifact (see ``Input``), not for this run."""
    record: Record


@dataclass
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
        self._lock = FileLock(folder / "lock", mode=FILE_MODE)

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
        for newest in _folders(root)[-1:]:  # the clock may have been put back
            began = max(began, newest.began() + timedelta(microseconds=1))
        stage = "".join(char if char.isalnum() else "_" for char in start.stage)
        name = f"{began:{_BEGAN}}-{stage}-{start.destination}-{secrets.token_hex(4)}"
        hidden = root / JOURNALS / f".{name}"
        private_folder(root / JOURNALS)
        private_folder(hidden)
        try:
            journal = cls(hidden)
            journal._lock.acquire()
            writer = Writer(journal)
            if error := writer.append(start):
                raise error
            hidden.rename(root / JOURNALS / name)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        journal._place(root / JOURNALS / name)
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
        if not self.file.exists():
            return False
        try:
            self._lock.acquire(timeout=seconds)
        except (Timeout, OSError):
            return False
        if not self.file.exists():  # who held it has removed it
            self._lock.release()
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
        reading = Reading(end=offset)
        number = 0 if offset == 0 else None
        for raw in content.split(b"\n")[:-1]:
            reading.end += len(raw) + 1
            try:
                line = _parse(raw)
            except ValueError as error:
                reading.damage.append(f"{error}: {len(raw)} bytes before byte {reading.end}")
                number = None  # unknown
                continue
            if number is not None and line.number > number:
                reading.damage.append(f"lines {number} to {line.number - 1} are missing")
            number = line.number + 1
            reading.lines.append(line)
            reading.offsets.append(reading.end)
        return reading

    def start(self) -> Start:
        """Returns how the run began; where that is unreadable, what the folder's name tells of it."""
        try:
            with self.file.open("rb") as file:
                record = _parse(file.readline().removesuffix(b"\n")).record
                if isinstance(record, Start):
                    return record
        except (OSError, ValueError):
            pass
        name = _NAME.fullmatch(self.name)
        stage = name["stage"] if name else "unknown"
        return Start(
            stage=stage,
            name=f"{stage} (damaged journal)",
            tags={"stage": stage, "journal": "damaged"},
            destination=name["destination"] if name else "",
            address="",
            timestamp_ms=int(1_000 * self.began().timestamp()),
        )

    def began(self) -> datetime:
        """Returns when the run began, from the folder's name."""
        try:
            return datetime.strptime(self.name[:22], _BEGAN).replace(tzinfo=UTC)
        except ValueError:  # somebody has renamed it
            return datetime.fromtimestamp(0, UTC)

    def end(self) -> End | None:
        """Returns how the run ended, if that is the last thing said."""
        try:
            with self.file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                *_, last, rest = [b"", *file.read().split(b"\n")]
            record = _parse(last).record if not rest else None
        except (OSError, ValueError):
            return None
        return record if isinstance(record, End) else None

    def spooled(self, file: File) -> Path:
        """Returns where the copy of ``file`` lies, under the file's own name."""
        return self.spool / file.sha256 / Path(file.path).name

    def remove(self) -> None:
        """Deletes the journal and its spool: nobody sees one without the other."""
        hidden = self.folder.with_name(f".{self.name}")
        with suppress(OSError):
            self.folder.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


class Writer:
    """Appends to a journal whose lock this process holds.

    Writing fails only in memory: what the disk does not take (it may be full) waits for the next line.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._mutex = threading.Lock()
        reading = journal.read()
        self._number = max((line.number for line in reading.lines), default=-1) + 1
        self._file = private_opener(str(journal.file), os.O_WRONLY | os.O_CREAT)
        self._end = journal.size
        self._waiting: list[bytes] = []
        if self._end > reading.end:  # closes the line that a killed process left half written
            self._waiting.append(b"\n")

    def append(self, record: Record, producer: str | None = None) -> OSError | None:
        """Appends a line; returns what keeps it, and those before it, from the disk."""
        with self._mutex:
            content = Line(number=self._number, producer=producer, record=record).model_dump_json()
            self._waiting.append(seal(content.encode()))
            self._number += 1
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
        private_folder(self.journal.spool)
        copy = self.journal.spool / secrets.token_hex(8)
        sha256 = hashlib.sha256()
        try:
            with source.open("rb") as original, open_private(copy, "wb") as file:
                while chunk := original.read(CHUNK_BYTES):
                    sha256.update(chunk)
                    file.write(chunk)
            kept = File(path=path.as_posix(), sha256=sha256.hexdigest(), size=copy.stat().st_size)
            target = self.journal.spooled(kept)
            private_folder(target.parent)
            copy.replace(target)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        return kept

    def close(self) -> OSError | None:
        """Makes the journal durable; returns why something of it is lost, if that is so."""
        with self._mutex:
            error = self._write()
            try:
                os.fsync(self._file)
            except OSError as failure:
                error = error or failure
            if os.fstat(self._file).st_nlink == 0:
                error = OSError("it was deleted meanwhile")
            os.close(self._file)
            return error

    def _write(self) -> OSError | None:
        while self._waiting:
            raw = self._waiting[0]
            try:
                written = 0
                while written < len(raw):
                    written += os.pwrite(self._file, raw[written:], self._end + written)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._file, self._end)
                return error
            self._end += len(raw)
            self._waiting.pop(0)
        return None


def journals(root: Path) -> Iterator[Journal]:
    """Yields the journals of the project at ``root``, the oldest first, and nothing else from there."""
    yield from (journal for journal in _folders(root) if journal.file.exists())


def tidy(root: Path) -> list[str]:
    """Deletes what killed processes left half made or half deleted; returns what else is no journal."""
    now = time.time()
    for hidden in (root / JOURNALS).glob(".[0-9]*-*"):
        with suppress(OSError):
            if _NAME.fullmatch(hidden.name[1:]) and now - hidden.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(hidden, ignore_errors=True)
    return [f"{journal.name}: its journal is gone" for journal in _folders(root) if not journal.size]


def close_dead(journal: Journal) -> bool:
    """Ends the journal of a process that died as KILLED; False while that process lives."""
    if not journal.hold():
        return False
    try:
        if journal.end() is None:
            times = [_time_ms(line) for line in journal.read().lines if line.producer is None]
            last = max(times, default=0) or journal.start().timestamp_ms
            writer = Writer(journal)
            writer.append(End(status="KILLED", error="the process died", timestamp_ms=last))
            if error := writer.close():
                raise error
        return True
    finally:
        journal.release()


def with_copies(record: Record, copy: Callable[[Path], File | None]) -> Record | None:
    """Return the record after ``copy`` has copied the file in it, if any; None if ``copy`` does."""
    match record:
        case File(path=path):
            return copy(Path(path))
        case Model(file=file):
            copied = copy(Path(file.path))
            return record.model_copy(update={"file": copied}) if copied else None
    return record


def seal(content: bytes) -> bytes:
    """Returns a line with ``content``, which has no line break, and its checksum."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def unseal(raw: bytes) -> bytes:
    """Returns the content of a line, given without its end.

    Raises:
        ValueError: it is damaged.
    """
    checksum, _, content = raw.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("damaged")
    return content


def _folders(root: Path) -> list[Journal]:
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(root / JOURNALS)))
    except OSError:
        return []
    return [Journal(root / JOURNALS / name) for name in names]


def _time_ms(line: Line) -> int:
    return getattr(line.record, "timestamp_ms", 0)


def _parse(raw: bytes) -> Line:
    content = unseal(raw)
    try:
        return Line.model_validate_json(content)
    except ValidationError:
        raise ValueError("from another version of darkroom") from None
