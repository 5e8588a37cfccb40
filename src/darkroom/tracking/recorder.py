"""Writes a stage's records into a journal, which a process of its own, the sender, sends to MLflow.

The stage never imports MLflow, and waits for it for a few seconds at the end of its run at most.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from darkroom.tracking.address import Address
from darkroom.tracking.git import git_tags
from darkroom.tracking.journal.file import (
    JOURNALS,
    LENGTH_OF_ERROR,
    REFUSED,
    Journal,
)
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import Trouble, read_trouble
from darkroom.tracking.journal.writer import Writer, create_journal, with_copies
from darkroom.tracking.mlflow.sender_process import has_sender, start_sender
from darkroom.tracking.person import user_name
from darkroom.tracking.records import (
    End,
    File,
    Metrics,
    NotResumed,
    Record,
    Resumed,
    Start,
    Status,
    clean,
)
from darkroom.tracking.root import project_root
from darkroom.tracking.run import warn
from darkroom.tracking.secrets.redaction import redact
from darkroom.whole_files import whole_file

TROUBLE_SECONDS = 3.0
"""Maximum time if MLflow is known to be out of reach."""

KILLED_SECONDS = 3.0
"""Maximum time of a stage that was told to stop."""

POLL_SECONDS = 0.05

HOLD_SECONDS = 20.0
"""How long a run that resumes waits while the sender holds its journal: a moment, on an idle machine."""


@contextmanager
def recording(
    title: str,
    seconds: float,
    may_resume: bool = False,
    subject: str = "",
    memo: Path | None = None,
) -> Iterator["Recorder | None"]:
    """Yield a recorder for a stage or a command; close its run with the status in which the block ends.

    FINISHED; FAILED with the error after an exception or an exit with a status; KILLED after a signal.
    Yields None if nothing can be written.

    Args:
        seconds: maximum time of waiting, at the end, until MLflow has everything; a third of it without
            progress.
        may_resume: hold the run back from MLflow until ``Recorder.resume`` is called, or the run ends.
        subject: a word for the run's name.
        memo: a file that names the journal of a run. The run continues that of an earlier process, if
            that process has left the file; in any case, the file then names this run.
    """
    try:
        recorder = Recorder(project_root(), title, seconds, may_resume, subject, memo)
    except Exception as error:  # of any kind: an observer must not stop the work
        warn("this run is not logged", error)
        yield None
        return
    try:
        yield recorder
    except BaseException as error:
        recorder.close(*_ending(error))
        raise
    recorder.close("FINISHED")


def _ending(error: BaseException) -> tuple[Status, str]:
    """Return the status and the error of a run whose process ends with ``error``."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SystemExit):
        if not error.code:
            return "FINISHED", ""
        by_signal = isinstance(error.code, int) and error.code > 128
        return ("KILLED" if by_signal else "FAILED"), text
    return ("FAILED" if isinstance(error, Exception) else "KILLED"), text


class Recorder:
    """Takes the records of one run. If anything goes wrong, the work continues, with one warning."""

    def __init__(
        self,
        root: Path,
        title: str,
        seconds: float,
        may_resume: bool = False,
        subject: str = "",
        memo: Path | None = None,
    ) -> None:
        self._root = root
        self._seconds = seconds
        self._address = Address.of(root)
        self._began = time.time()
        self._points: set[tuple[str | None, str, int]] = set()
        self._has_warned = False
        self._sender: subprocess.Popen[bytes] | None = None
        self._mutex = threading.RLock()  # system metrics come from a thread of their own
        tags = start_tags(title)
        start = Start(
            stage=title,
            name=run_name(title, subject, tags),
            tags=tags,
            destination=self._address.digest,
            address=f"{self._address}",
            may_resume=may_resume,
            timestamp_ms=_now_ms(),
        )
        if memo is None:
            self._writer = create_journal(root, start)
        elif earlier := self._find_earlier(memo):
            self._writer = self._reopened(earlier)
        else:  # named before it exists: a process killed in between leaves no run
            self._writer = create_journal(root, start, partial(_write_memo, memo))
        with self._observing():
            self._sender = start_sender(root)

    @property
    def _journal(self) -> Journal:
        return self._writer.journal

    def record(self, record: Record, producer: str | None = None) -> None:
        """Append a record; ``producer``: for the run that produced this artifact (see ``Input``)."""
        with self._observing():
            if isinstance(record, Metrics):
                record = self._new_points(record, producer)
                if not record.values:
                    return
            if copied := with_copies(record, self._copy):
                self._append(copied, producer)
            if trouble := self._trouble():
                self._warn(f"{trouble.sentence(self._address)}; {self._what_now(trouble)}")

    def resume(self, memo: Path) -> None:
        """Resume the run whose journal ``memo`` names, if there is one; then write this run there."""
        with self._observing():
            if earlier := self._find_earlier(memo):
                self._continue(earlier)
            else:
                self._append(NotResumed())
            _write_memo(memo, self._journal.name)

    def _trouble(self) -> Trouble | None:
        """Return why runs cannot be sent; an earlier run's trouble may be over and does not count."""
        return read_trouble(self._root, self._address, self._began)

    @staticmethod
    def _what_now(trouble: Trouble) -> str:
        kept = f"the work continues, and this run is kept in {JOURNALS}/"
        if trouble.may_pass:
            return f"{kept} until a stage or `darkroom sync` can send it"
        return (
            f"{kept}; correct that, then run `darkroom sync`, or `darkroom sync --redirect` if you "
            "changed the address or the experiment"
        )

    @contextmanager
    def _observing(self) -> Iterator[None]:
        """Turn any failure into a warning, so that the work continues. One thread at a time."""
        try:
            with self._mutex:
                yield
        except Exception as error:  # of any kind
            text = f"{error}".partition("\n")[0] or type(error).__name__
            self._warn(f"not everything of this run is logged: {redact(text)}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            print(f"tracking: {text}", file=sys.stderr)

    def _find_earlier(self, memo: Path) -> Journal | None:
        try:
            earlier = Journal(self._root / JOURNALS / Path(memo.read_text(encoding="utf-8")).name)
            if earlier.start().destination != self._address.digest:
                return None
        except (OSError, ValueError):
            return None
        return earlier if earlier.hold(HOLD_SECONDS) else None

    def _continue(self, earlier: Journal) -> None:
        """Append this run's records to an ``earlier`` journal, and write there from now on."""
        new, own, lines = self._journal, self._writer, self._journal.read().lines
        self._writer = self._reopened(earlier)
        own.close()
        new.remove()  # before its records are elsewhere: a process killed in between leaves one run
        new.release()
        for line in lines:
            if not isinstance(line.record, Start):
                self._append(line.record, line.producer)

    def _reopened(self, earlier: Journal) -> Writer:
        """Return a writer of an earlier process's journal, whose points are not logged again."""
        writer = Writer(earlier)
        for line in earlier.read().lines:
            if isinstance(line.record, Metrics):
                self._points |= {(line.producer, name, line.record.step) for name in line.record.values}
        if error := writer.append(Resumed(timestamp_ms=_now_ms())):
            raise error
        return writer

    def _new_points(self, metrics: Metrics, producer: str | None) -> Metrics:
        """Return the metrics without those that the journal has: a resumed training repeats some."""
        points = {(producer, name, metrics.step) for name in metrics.values}
        known = {name for _, name, _ in points & self._points}
        self._points |= points
        new = {name: value for name, value in metrics.values.items() if name not in known}
        return metrics.model_copy(update={"values": new})

    def _copy(self, path: Path) -> File | None:
        try:
            return self._writer.keep(path)
        except FileNotFoundError as error:
            if path.exists():  # then the journal's folder is gone
                raise
            warn(f"{path} is not logged", error)
            return None

    def _append(self, record: Record, producer: str | None = None) -> None:
        if error := self._writer.append(record, producer):
            self._warn(f"not all of this run may be kept, {self._journal.folder}: {error.strerror}")

    def close(self, status: Status, error: str = "") -> None:
        """End the run, and wait a little until MLflow has it."""
        with self._observing():
            text = clean(error)[:LENGTH_OF_ERROR]
            self._append(End(status=status, error=text, timestamp_ms=_now_ms()))
        with self._observing():
            size = self._journal.size
            failure = self._writer.close()
            self._journal.release()
            if failure:
                self._warn(f"not all of this run is kept, {self._journal.folder}: {failure}")
            elif self._wait(size, KILLED_SECONDS if status == "KILLED" else self._seconds):
                self._tell_refused()
            else:
                trouble = self._trouble()
                if trouble and not trouble.may_pass:
                    self._warn(f"{trouble.text}; {self._what_now(trouble)}")
                    return
                why = trouble.text if trouble else "it takes longer than a stage waits"
                self._warn(
                    f"{self._address} does not have this run yet ({why}); it is kept in "
                    f"{JOURNALS}/, the next stage sends it, or `darkroom sync`"
                )

    def _tell_refused(self) -> None:
        aside = self._root / JOURNALS / REFUSED / self._journal.name
        if Receipt.load(self._journal, self._address.digest).refused or aside.exists():
            self._warn(
                f"{self._address} refused a part of this run; {JOURNALS}/sender.log says which, and its "
                f"journal is kept"
            )

    def _wait(self, size: int, seconds: float) -> bool:
        """Return whether MLflow has everything before it is clear that this takes longer."""
        began = moved = time.monotonic()
        offset = -1
        try:
            while (now := time.monotonic()) - began < seconds:
                receipt = Receipt.load(self._journal, self._address.digest)
                if receipt.offset >= size or not self._journal.file.exists():
                    return True
                if receipt.offset != offset:
                    offset, moved = receipt.offset, now
                trouble = self._trouble()
                if trouble and not trouble.may_pass:
                    return False
                if now - moved > (TROUBLE_SECONDS if trouble else self._seconds / 3):
                    return False
                self._replace_sender()
                time.sleep(POLL_SECONDS)
        except (KeyboardInterrupt, SystemExit):  # the work is done: only the waiting ends
            pass
        return False

    def _replace_sender(self) -> None:
        """Start a sender if none is running: ours, or the one that replaced it, may have been killed."""
        is_over = self._sender is None or self._sender.poll() is not None
        if is_over and not has_sender(self._root, self._address):
            self._sender = start_sender(self._root)


def _write_memo(memo: Path, journal: str) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(memo) as part:
        part.write_text(journal, encoding="utf-8")


def start_tags(title: str) -> dict[str, str]:
    """Return a run's first tags: its stage, script, user and commit."""
    script = Path("stages", f"{title.partition('@')[0]}.py")
    return {
        "stage": title,
        "mlflow.source.name": f"{script}" if script.exists() else f"darkroom {title}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user_name(),
        **git_tags(),
    }


def run_name(title: str, subject: str, tags: Mapping[str, str]) -> str:
    """Return a run's name: stage, subject, and experiment or commit; + marks changed files."""
    commit = tags.get("mlflow.source.git.commit", "")[:7]
    mark = "+" if tags.get("git.dirty") == "true" else ""
    return " ".join(filter(None, (title, subject, tags.get("dvc.experiment") or f"{commit}{mark}")))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
