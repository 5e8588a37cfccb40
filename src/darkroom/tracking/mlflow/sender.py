"""The process that brings journals to MLflow: one a project and MLflow, however many stages run.

Stages start it and never wait for a call of MLflow's. It takes only what processor time they leave,
works beside all stages of a `dvc repro`, outlives those that are killed and says so in their runs, and
ends some seconds after the last. Since it alone writes, no two processes fight over the database.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import (
    JOURNALS,
    REFUSED,
    Journal,
    Reading,
    close_dead,
    journals,
    tidy,
)
from darkroom.tracking.journal.private import FILE_MODE, open_private, private_folder
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import (
    Misconfigured,
    OutOfReach,
    Trouble,
    end_trouble,
    note_trouble,
    reason,
)
from darkroom.tracking.records import Metrics, NotResumed
from darkroom.tracking.secrets import redact, redacted_output

if TYPE_CHECKING:
    from darkroom.tracking.mlflow.store import Store

POLL_SECONDS = 0.2

FLUSH_SECONDS = 5.0
"""How often metrics are sent while a stage runs."""

LINGER_SECONDS = 6.0
"""How long it waits for the next stage: to start again costs some seconds of work."""

HANDOVER_SECONDS = 3.0
"""How long a second one waits for the first to end, before it leaves the work to that."""

GIVE_UP_SECONDS = 60.0
"""How long it tries where MLflow is out of reach and no stage runs any more."""

LEAST_PAUSE_SECONDS, GREATEST_PAUSE_SECONDS = 1.0, 30.0
"""Between two tries; each is twice the one before."""

PUT_OFF_SECONDS = 30.0
"""How long a journal is left alone that could not be read, or whose receipt not written."""

LOG_BYTES = 1 << 20
"""At which the log begins anew; the one before is kept."""

NUM_KEPT = 8
"""Journals of runs that did not finish: a training that goes on goes on with its journal, too."""


class DetachedProcess(subprocess.Popen[bytes]):
    """A process that outlives its parent."""

    def __del__(self) -> None:
        """Give no ResourceWarning, as ``Popen`` does: the process is meant to run on."""


def start_sender(root: Path) -> DetachedProcess:
    """Sees to it that a sender works for the project at ``root``, to the MLflow that is asked for."""
    path = root / JOURNALS / "sender.log"
    with suppress(OSError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".1.log"))
    with open_private(path, "ab") as log:
        return DetachedProcess(
            [sys.executable, "-m", "darkroom.tracking.mlflow.sender", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,  # what a relative address is relative to
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the stage
        )


@contextmanager
def only_sender(root: Path, address: Address, seconds: float) -> Iterator[bool]:
    """Yields whether this process is the one that sends to ``address`` while the block runs.

    Waits at most ``seconds`` for another one to end; that may be in trouble, and then ends for us.
    """
    private_folder(root / JOURNALS)
    lock, next_lock = _lock(root, address), _lock(root, address, "-next")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            with suppress(Timeout):
                next_lock.acquire(timeout=1)
            lock.acquire(timeout=seconds)
        except Timeout:
            yield False
            return
        finally:
            next_lock.release()
    try:
        yield True
    finally:
        lock.release()


def has_sender(root: Path, address: Address) -> bool:
    """Returns whether a process sends to ``address``."""
    return _is_held(_lock(root, address))


def _lock(root: Path, address: Address, who: str = "") -> FileLock:
    """Returns the lock of the sender, or of who waits to be it; it ends with the process."""
    return FileLock(root / JOURNALS / f"sender-{address.digest}{who}.lock", mode=FILE_MODE)


def _is_held(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


class Sender:
    """Sends the journals of the project at ``root`` to ``address``.

    Args:
        takes_all: also those that were meant for another MLflow.
        report: is told what could not be read or sent, each once.
    """

    def __init__(
        self,
        root: Path,
        address: Address,
        takes_all: bool = False,
        report: Callable[[str], None] = print,
    ) -> None:
        self._root = root
        self._address = address
        self.takes_all = takes_all
        self._report = report
        self._reported: set[str] = set()
        self._sent_at: dict[str, float] = {}
        self._destinations: dict[str, str] = {}
        self._put_off_until: dict[str, float] = {}
        self._store: Store | None = None

    def send_all(self) -> bool:
        """Sends what there is of every journal, the oldest first.

        Returns:
            Whether some of them still grow.

        Raises:
            OutOfReach: MLflow cannot be reached; the message says why.
        """
        states = [(journal, self.has_ended(journal)) for journal in self.pending()]
        for journal, has_ended in states:
            try:
                self._send(journal, has_ended)
            except OutOfReach as error:
                note_trouble(self._root, self._address, Trouble.of(error))
                raise
            except Exception as error:  # whatever it is, the other journals are sent
                self._put_off(journal, error)
        return not all(has_ended for _, has_ended in states)

    def pending(self) -> list[Journal]:
        """Returns the journals that have something to send, or still grow; the oldest first."""
        now = time.monotonic()
        return [
            journal
            for journal in journals(self._root)
            if self.is_ours(journal)
            and not self._is_done(journal)
            and now >= self._put_off_until.get(journal.name, 0.0)
        ]

    def is_ours(self, journal: Journal) -> bool:
        """Returns whether a journal is to be sent here, sooner or later."""
        if self.takes_all:
            return True
        if journal.name not in self._destinations:
            self._destinations[journal.name] = journal.start().destination
        return self._destinations[journal.name] in ("", self._address.digest)

    def _is_done(self, journal: Journal) -> bool:
        """Returns whether a journal has arrived, and only waits for its training to go on."""
        end = journal.end()
        if end is None or end.status == "FINISHED":  # such a one is removed
            return False
        return Receipt.load(journal, self._address.digest).offset >= journal.size

    def has_ended(self, journal: Journal) -> bool:
        """Returns whether nothing more will be said; ends the journal of a process that died."""
        try:
            return journal.end() is not None or close_dead(journal)
        except OSError as error:  # of a full disk
            self._put_off(journal, error)
            return True

    def _put_off(self, journal: Journal, error: Exception) -> None:
        self._put_off_until[journal.name] = time.monotonic() + PUT_OFF_SECONDS
        self._say(f"{journal.name}: {reason(error)}")

    def _send(self, journal: Journal, has_ended: bool) -> None:
        receipt = Receipt.load(journal, self._address.digest)
        reading = journal.read(receipt.offset)
        is_due = has_ended or self._is_due(journal, receipt, reading)
        if is_due and reading.end > receipt.offset:
            _make_durable(journal)
            store = self._open_store()
            from darkroom.tracking.mlflow.delivery import Delivery  # imports MLflow, the store is first

            Delivery(store, journal, receipt).send(reading)
            self._sent_at[journal.name] = time.monotonic()
            end_trouble(self._root, self._address)
        if has_ended and receipt.offset >= journal.size:
            self._finish(journal, receipt)

    def _is_due(self, journal: Journal, receipt: Receipt, reading: Reading) -> bool:
        """Returns whether a journal that grows has something to send at once, or for long enough."""
        said = [line.record for line in reading.lines]
        if not receipt.run_id and journal.start().may_resume:
            return any(isinstance(record, NotResumed) for record in said)
        if any(not isinstance(record, Metrics) for record in said):
            return True
        return time.monotonic() - self._sent_at.get(journal.name, 0.0) >= FLUSH_SECONDS

    def _open_store(self) -> "Store":
        from darkroom.tracking.mlflow.store import open_store

        if self._store is None or self._store.is_replaced():
            self._store = open_store(self._root, self._address)
        return self._store

    def _finish(self, journal: Journal, receipt: Receipt) -> None:
        """Removes a journal that has arrived, keeps the latest of those that may go on."""
        for remark in receipt.refused:
            self._say(f"{journal.name}: {remark}")
        if journal.hold():  # else it goes on already
            try:
                end = journal.end()
                if end is not None and end.status == "FINISHED":
                    self._remove(journal, receipt)
            finally:
                journal.release()
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        kept = [j for j in journals(self._root) if self.is_ours(j) and self._is_done(j)]
        for journal in kept[:-NUM_KEPT]:
            if journal.hold():
                try:
                    if self._is_done(journal):  # has not gone on meanwhile
                        self._remove(journal, Receipt.load(journal, self._address.digest))
                finally:
                    journal.release()

    def _remove(self, journal: Journal, receipt: Receipt) -> None:
        """Removes a journal; one of which something did not arrive is put aside."""
        if receipt.refused:
            refused = self._root / JOURNALS / REFUSED
            private_folder(refused)
            journal.folder.rename(refused / journal.name)
        else:
            journal.remove()

    def _say(self, remark: str) -> None:
        if remark not in self._reported:
            self._reported.add(remark)
            self._report(redact(remark))

    def run(self) -> None:
        """Sends until nothing has grown for a while, or MLflow stays out of reach."""
        for remark in tidy(self._root):
            self._say(remark)
        idle_since = reached_at = time.monotonic()
        pause, trouble = LEAST_PAUSE_SECONDS, ""
        while True:
            try:
                is_live = self.send_all()
            except OutOfReach as error:
                if f"{error}" != trouble:  # an outage may be long
                    trouble = f"{error}"
                    self._report(f"{self._address}: {trouble}")
                if self.num_growing():
                    reached_at = time.monotonic()  # not given up while a stage runs
                elif isinstance(error, Misconfigured):
                    return  # waiting does not help
                if time.monotonic() - reached_at > GIVE_UP_SECONDS:
                    return
                self._wait_for_stages(pause)
                if self._is_relieved():
                    return
                pause = min(2 * pause, GREATEST_PAUSE_SECONDS)
                continue
            now = time.monotonic()
            reached_at, pause, trouble = now, LEAST_PAUSE_SECONDS, ""
            if is_live:
                idle_since = now
            elif now - idle_since > LINGER_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    def _wait_for_stages(self, seconds: float) -> None:
        """Waits; less where a stage begins meanwhile, or ends, which waits for us."""
        until = time.monotonic() + seconds
        num_growing = self.num_growing()
        time.sleep(LEAST_PAUSE_SECONDS)
        while time.monotonic() < until and self.num_growing() == num_growing:
            if self._is_relieved():
                return
            time.sleep(POLL_SECONDS)

    def _is_relieved(self) -> bool:
        """Returns whether a younger sender waits, which has the password that was mended since."""
        return _is_held(_lock(self._root, self._address, "-next"))

    def num_growing(self) -> int:
        """Returns how many of our journals still grow."""
        return sum(not self.has_ended(journal) for journal in self.pending())


def main(root: Path) -> None:
    """Sends the journals of the project at ``root``, unless another process does."""
    _yield_processor()
    address = Address.of(root)
    with (
        redacted_output(),  # MLflow, too, says something of addresses
        only_sender(root, address, HANDOVER_SECONDS) as is_only,
    ):
        if is_only:
            Sender(root, address).run()


def _yield_processor() -> None:
    """Lets any other process go first."""
    with suppress(OSError, AttributeError):
        os.nice(19)
    with suppress(OSError, AttributeError):  # Linux has an even lower class
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _make_durable(journal: Journal) -> None:
    """Has the disk keep what is about to be sent; the stage itself does not wait for that."""
    with suppress(OSError), journal.file.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
