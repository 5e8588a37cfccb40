"""The process that sends journals to MLflow: one per project and MLflow, however many stages run.

Stages start it and never wait for a call of MLflow. It runs at the lowest priority, serves all stages of
a `dvc repro`, notices stages that were killed and ends their runs, and stops some seconds after the last
stage. Because it is the only writer, no two processes compete for the database.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import (
    JOURNALS,
    REFUSED,
    Journal,
    Reading,
    journals,
    tidy,
)
from darkroom.tracking.journal.private import private_folder
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import (
    Misconfigured,
    OutOfReach,
    Trouble,
    end_trouble,
    note_trouble,
    reason,
)
from darkroom.tracking.journal.writer import close_dead
from darkroom.tracking.mlflow.elected import RESULT_TAG
from darkroom.tracking.mlflow.sender_process import is_successor_waiting, only_sender
from darkroom.tracking.records import Metrics, NotResumed
from darkroom.tracking.redacted_output import redacted_output
from darkroom.tracking.secrets.redaction import redact

if TYPE_CHECKING:
    from darkroom.tracking.mlflow.store import Store

POLL_SECONDS = 0.2

FLUSH_SECONDS = 5.0
"""Interval at which metrics are sent while a stage runs."""

LINGER_SECONDS = 6.0
"""How long it waits for the next stage, since starting again costs some seconds of CPU time."""

HANDOVER_SECONDS = 3.0
"""How long a second sender waits for the first to stop, before it leaves the work to that one."""

GIVE_UP_SECONDS = 60.0
"""How long it keeps trying if MLflow is out of reach and no stage runs."""

LEAST_PAUSE_SECONDS, GREATEST_PAUSE_SECONDS = 1.0, 30.0
"""Pause between two attempts; each is twice the previous one."""

PUT_OFF_SECONDS = 30.0
"""How long a journal is skipped after it could not be read, or its receipt not be written."""

NUM_KEPT = 8
"""Number of kept journals of runs that did not finish, which a training may resume."""


class Sender:
    """Sends the journals of the project at ``root`` to ``address``.

    Args:
        takes_all: also send those that were meant for another MLflow.
        report: called once with each message about what could not be read or sent.
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
        """Send the records of every journal, oldest journal first.

        Returns:
            Whether a journal may still grow.

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
            except Exception as error:  # of any kind: the other journals are still sent
                self._put_off(journal, error)
        return not all(has_ended for _, has_ended in states)

    def pending(self) -> list[Journal]:
        """Return the journals that have records to send, or may still grow; the oldest first."""
        now = time.monotonic()
        return [
            journal
            for journal in journals(self._root)
            if self.is_ours(journal)
            and not self._is_done(journal)
            and now >= self._put_off_until.get(journal.name, 0.0)
        ]

    def is_ours(self, journal: Journal) -> bool:
        """Return whether a journal is meant for this MLflow."""
        if self.takes_all:
            return True
        if journal.name not in self._destinations:
            self._destinations[journal.name] = journal.start().destination
        return self._destinations[journal.name] in ("", self._address.digest)

    def _is_done(self, journal: Journal) -> bool:
        """Return whether a journal was sent and is only kept for a training that may resume it."""
        end = journal.end()
        if end is None or end.status == "FINISHED":  # a finished run's journal is removed
            return False
        return Receipt.load(journal, self._address.digest).offset >= journal.size

    def has_ended(self, journal: Journal) -> bool:
        """Return whether a journal is complete; end it first if its process died."""
        try:
            return journal.end() is not None or close_dead(journal)
        except OSError as error:  # for example because the disk is full
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
            from darkroom.tracking.mlflow.delivery import (
                Delivery,
            )  # imports MLflow, which open_store sets up

            Delivery(store, journal, receipt).send(reading)
            self._sent_at[journal.name] = time.monotonic()
            end_trouble(self._root, self._address)
        if has_ended and receipt.offset >= journal.size:
            self._finish(journal, receipt)

    def _is_due(self, journal: Journal, receipt: Receipt, reading: Reading) -> bool:
        """Return whether a growing journal has records to send at once, or that waited long enough."""
        records = [line.record for line in reading.lines]
        if not receipt.run_id and journal.start().may_resume:
            return any(isinstance(record, NotResumed) for record in records)
        if RESULT_TAG in journal.start().tags:  # its parameters elect its run
            return False
        if any(not isinstance(record, Metrics) for record in records):
            return True
        return time.monotonic() - self._sent_at.get(journal.name, 0.0) >= FLUSH_SECONDS

    def _open_store(self) -> "Store":
        from darkroom.tracking.mlflow.store import open_store

        if self._store is None or self._store.is_replaced():
            self._store = open_store(self._root, self._address)
        return self._store

    def _finish(self, journal: Journal, receipt: Receipt) -> None:
        """Remove a journal that was sent, except the latest of those that may be resumed."""
        for remark in receipt.refused:
            self._say(f"{journal.name}: {remark}")
        if journal.hold():  # otherwise it has been resumed
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
                    if self._is_done(journal):  # it was not resumed meanwhile
                        self._remove(journal, Receipt.load(journal, self._address.digest))
                finally:
                    journal.release()

    def _remove(self, journal: Journal, receipt: Receipt) -> None:
        """Remove a journal, or move it to the refused ones if something did not arrive."""
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
        """Send until no journal has grown for a while, or MLflow stays out of reach."""
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
        """Wait for ``seconds``, or until a stage starts or ends: one that ends waits for us."""
        until = time.monotonic() + seconds
        num_growing = self.num_growing()
        time.sleep(LEAST_PAUSE_SECONDS)
        while time.monotonic() < until and self.num_growing() == num_growing:
            if self._is_relieved():
                return
            time.sleep(POLL_SECONDS)

    def _is_relieved(self) -> bool:
        """Return whether a newer sender waits, whose password may be the correct one."""
        return is_successor_waiting(self._root, self._address)

    def num_growing(self) -> int:
        """Return the number of our journals that may still grow."""
        return sum(not self.has_ended(journal) for journal in self.pending())


def main(root: Path) -> None:
    """Send the journals of the project at ``root``, unless another process does."""
    _yield_processor()
    address = Address.of(root)
    with (
        redacted_output(),  # MLflow prints addresses, too
        only_sender(root, address, HANDOVER_SECONDS) as is_only,
    ):
        if is_only:
            Sender(root, address).run()


def _yield_processor() -> None:
    """Give every other process priority."""
    with suppress(OSError, AttributeError):
        os.nice(19)
    with suppress(OSError, AttributeError):  # Linux has an even lower class
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _make_durable(journal: Journal) -> None:
    """Make the journal durable before it is sent; the stage itself does not wait for that."""
    with suppress(OSError), journal.file.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
