"""A run's journal: an append-only file of records, which is kept until MLflow has them all.

Each line has a checksum, which reveals what a killed process or a torn write left behind. The process
that writes a journal holds its lock, and the operating system frees the lock when the process ends in
any way. A journal that has no end and whose lock is free thus belongs to a process that died.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.tracking.journal.lines import Line, parse_line
from darkroom.tracking.journal.private import FILE_MODE
from darkroom.tracking.records import End, File, Start

JOURNALS = "mljournal"
"""The folder of journals in the project's root. Runs that MLflow does not have yet exist only here."""

REFUSED = "refused"
"""The subfolder for journals of which MLflow refused a part."""

TAIL_BYTES = 16_384
"""Bytes at the end of a journal that are enough to hold the last line if that is an ``End``."""

LENGTH_OF_ERROR = 2_000
"""Maximum in characters, so that an ``End`` fits into ``TAIL_BYTES`` however JSON escapes it."""

LEFTOVER_SECONDS = 3_600
"""Age at which a hidden folder is taken for one that a killed process left."""

_NAME = re.compile(r"\d{8}-\d{6}-\d{6}-(?P<stage>\w+)-(?P<destination>[0-9a-f]*)-[0-9a-f]{8}")
BEGAN = "%Y%m%d-%H%M%S-%f"


@dataclass
class Reading:
    """The readable lines of a journal from an offset on."""

    lines: list[Line] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """The byte at which each line ends."""
    end: int = 0
    """The byte at which the last complete line ends, readable or not."""
    damage: list[str] = field(default_factory=list)
    """One remark per place that could not be read."""


class Journal:
    """The journal in ``folder``, which also holds copies of files and the receipt of what was sent."""

    def __init__(self, folder: Path) -> None:
        self.place(folder)
        self.lock = FileLock(folder / "lock", mode=FILE_MODE)

    def place(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "journal.jsonl"
        self.spool = folder / "files"

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def size(self) -> int:
        """Size in bytes; 0 if the journal does not exist (any more)."""
        try:
            return self.file.stat().st_size
        except OSError:
            return 0

    def hold(self, seconds: float = 0.0) -> bool:
        """Acquire the lock within ``seconds``; return False if it is taken, or the journal is gone."""
        if not self.file.exists():
            return False
        try:
            self.lock.acquire(timeout=seconds)
        except (Timeout, OSError):
            return False
        if not self.file.exists():  # the previous holder has removed it
            self.lock.release()
            return False
        return True

    def release(self) -> None:
        self.lock.release()

    def read(self, offset: int = 0) -> Reading:
        """Read the complete lines from ``offset`` on. A last line without a line break is ignored."""
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
                line = parse_line(raw)
            except ValueError as error:
                reading.damage.append(f"{error}: {len(raw)} bytes before byte {reading.end}")
                number = None  # of the next line: unknown
                continue
            if number is not None and line.number > number:
                reading.damage.append(f"lines {number} to {line.number - 1} are missing")
            number = line.number + 1
            reading.lines.append(line)
            reading.offsets.append(reading.end)
        return reading

    def start(self) -> Start:
        """Return the run's start; if it is unreadable, what the folder's name says about it."""
        try:
            with self.file.open("rb") as file:
                record = parse_line(file.readline().removesuffix(b"\n")).record
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
        """Return the time in the folder's name, at which the run began."""
        try:
            return datetime.strptime(self.name[:22], BEGAN).replace(tzinfo=UTC)
        except ValueError:  # the folder was renamed
            return datetime.fromtimestamp(0, UTC)

    def end(self) -> End | None:
        """Return the run's end, if that is the last record."""
        try:
            with self.file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                *_, last, rest = [b"", *file.read().split(b"\n")]
            record = parse_line(last).record if not rest else None
        except (OSError, ValueError):
            return None
        return record if isinstance(record, End) else None

    def spooled(self, file: File) -> Path:
        """Return the path of the copy of ``file``, which keeps the file's name."""
        return self.spool / file.sha256 / Path(file.path).name

    def remove(self) -> None:
        """Delete the journal and its copies of files in one step."""
        hidden = self.folder.with_name(f".{self.name}")
        with suppress(OSError):
            self.folder.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def journals(root: Path) -> Iterator[Journal]:
    """Yield the journals of the project at ``root``, the oldest first."""
    yield from (journal for journal in journal_folders(root) if journal.file.exists())


def tidy(root: Path) -> list[str]:
    """Delete what killed processes left unfinished; return one remark per folder without a journal."""
    now = time.time()
    for hidden in (root / JOURNALS).glob(".[0-9]*-*"):
        with suppress(OSError):
            if _NAME.fullmatch(hidden.name[1:]) and now - hidden.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(hidden, ignore_errors=True)
    return [
        f"{journal.name}: its journal is gone" for journal in journal_folders(root) if not journal.size
    ]


def journal_folders(root: Path) -> list[Journal]:
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(root / JOURNALS)))
    except OSError:
        return []
    return [Journal(root / JOURNALS / name) for name in names]
