"""Writing a journal: the process that writes holds its lock."""

import os
import secrets
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from darkroom.digests import FileDigest
from darkroom.tracking.journal.file import BEGAN, JOURNALS, Journal, journal_folders
from darkroom.tracking.journal.lines import Line, seal
from darkroom.tracking.journal.private import open_private, private_folder, private_opener
from darkroom.tracking.records import End, File, Model, Record, Start


class Writer:
    """Appends to a journal whose lock this process holds.

    A line that cannot be written, for example because the disk is full, stays in memory and is written
    together with the next one.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._mutex = threading.Lock()
        reading = journal.read()
        self._number = max((line.number for line in reading.lines), default=-1) + 1
        self._file = private_opener(str(journal.file), os.O_WRONLY | os.O_CREAT)
        self._end = journal.size
        self._waiting: list[bytes] = []
        if self._end > reading.end:  # ends the line that a killed process left unfinished
            self._waiting.append(b"\n")

    def append(self, record: Record, producer: str | None = None) -> OSError | None:
        """Append a line; return the error that keeps lines from the disk, if there is one."""
        with self._mutex:
            content = Line(number=self._number, producer=producer, record=record).model_dump_json()
            self._waiting.append(seal(content.encode()))
            self._number += 1
            return self._write()

    def keep(self, path: Path, source: Path | None = None) -> File:
        """Copy a file into the spool, and return its record.

        Args:
            path: the file's path in the run's artifacts.
            source: where the file is now; default: ``path``.

        Raises:
            OSError: the file cannot be read, or there is no space.
        """
        private_folder(self.journal.spool)
        copy = self.journal.spool / secrets.token_hex(8)
        try:
            with (source or path).open("rb") as original, open_private(copy, "wb") as file:
                shutil.copyfileobj(original, file)
            digest = FileDigest.of(copy)
            kept = File(path=path.as_posix(), sha256=digest.sha256, size=digest.size)
            target = self.journal.spooled(kept)
            private_folder(target.parent)
            copy.replace(target)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        return kept

    def close(self) -> OSError | None:
        """Make the journal durable; return the error if a part of it is lost."""
        with self._mutex:
            error = self._write()
            try:
                os.fsync(self._file)
            except OSError as failure:
                error = error or failure
            if os.fstat(self._file).st_nlink == 0:
                error = OSError("the journal was deleted")
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


def create_journal(
    root: Path, start: Start, announce: Callable[[str], None] = lambda name: None
) -> Writer:
    """Create a journal in the project at ``root``, whose lock this process then holds.

    Names of journals sort by time. The journal appears in one step, together with ``start``.

    Args:
        announce: called with the name of the journal before it appears.
    """
    began = datetime.fromtimestamp(start.timestamp_ms / 1_000, UTC)
    for newest in journal_folders(root)[-1:]:  # the clock may have been set back
        began = max(began, newest.began() + timedelta(microseconds=1))
    stage = "".join(char if char.isalnum() else "_" for char in start.stage)
    name = f"{began:{BEGAN}}-{stage}-{start.destination}-{secrets.token_hex(4)}"
    hidden = root / JOURNALS / f".{name}"
    private_folder(root / JOURNALS)
    private_folder(hidden)
    try:
        journal = Journal(hidden)
        journal.lock.acquire()
        writer = Writer(journal)
        if error := writer.append(start):
            raise error
        announce(name)
        hidden.rename(root / JOURNALS / name)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    journal.place(root / JOURNALS / name)
    return writer


def close_dead(journal: Journal) -> bool:
    """End the journal of a process that died, as KILLED; return False if the process is alive."""
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
        case Model(file=file, description=description):
            copied = copy(Path(file.path))
            described = copy(Path(description.path)) if description else None
            update = {"file": copied, "description": described}
            return record.model_copy(update=update) if copied else None
    return record


def _time_ms(line: Line) -> int:
    return getattr(line.record, "timestamp_ms", 0)
