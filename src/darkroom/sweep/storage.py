"""Optuna's storage of a sweep: a journal file of its own, or a database that a team shares."""

import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.errors import UserError, brief
from darkroom.sweep.definition import Sweep
from darkroom.tracking.secrets.addresses import shown_address
from darkroom.tracking.secrets.redaction import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileOpenLock

JOURNAL = "optuna.log"

HEARTBEAT_SECONDS = 30
"""How often a machine writes into the database that it is alive."""

LOST_SECONDS = 300
"""Age of the last heartbeat at which another machine takes a trial over."""

_CREATED_MEANWHILE = re.compile("already exists|duplicate key|UNIQUE constraint")
"""In the error if another machine creates Optuna's tables at the same time."""


def open_storage(sweep: Sweep, folder: Path) -> "BaseStorage":
    """Open the storage of a sweep, whose results are in ``folder``.

    Raises:
        UserError: Optuna or the driver of a database is missing, or the database cannot be opened.
    """
    check_optuna()
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if sweep.storage is None:
        journal = folder / JOURNAL
        _end_line(journal)
        with warnings.catch_warnings(action="ignore"):
            return JournalStorage(JournalFileBackend(os.fspath(journal), _no_lock()))
    address = shown_address(sweep.storage)
    for pause_seconds in (0.5, 2.0, 0.0):
        try:
            with warnings.catch_warnings(action="ignore"):  # heartbeats are called experimental
                return RDBStorage(
                    sweep.storage, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=LOST_SECONDS
                )
        except ImportError as error:
            raise UserError(
                f"storage: {address} needs a package that is missing: {brief(error)}; for PostgreSQL:"
                " pip install 'psycopg[binary]'"
            ) from None
        except Exception as error:  # of the driver of any database
            if pause_seconds == 0 or not _CREATED_MEANWHILE.search(f"{error}"):
                raise UserError(
                    f"storage: {address} cannot be opened: {brief(redact(f'{error}'))}"
                ) from None
        time.sleep(pause_seconds)
    raise AssertionError("the last attempt returns or raises")


def check_optuna() -> None:
    """Raise ``UserError`` if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError(
            "darkroom sweep needs Optuna; install it with `pip install 'darkroom[sweep]'`, or `pip"
            " install optuna`"
        ) from None


def _no_lock() -> "JournalFileOpenLock":
    """Return a lock in place of Optuna's, which a killed process leaves behind for half a minute.

    The lock of the sweep keeps other processes out.
    """
    from optuna.storages.journal import JournalFileOpenLock

    class NoLock(JournalFileOpenLock):
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    return NoLock("unused")


def _end_line(journal: Path) -> None:
    """Remove an incomplete last line, left by a killed process: Optuna cannot read past it."""
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


@contextmanager
def database_failures(sweep: Sweep) -> Iterator[None]:
    """Explain failures of the database while the block runs.

    Raises:
        UserError: the database cannot be reached any more.
    """
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        if sweep.storage is None:
            raise
        reason = redact(f"{error.__cause__ or error}")
        raise UserError(
            f"storage: {shown_address(sweep.storage)} does not answer any more ({brief(reason)});"
            " nothing is lost: the same command resumes"
        ) from None
