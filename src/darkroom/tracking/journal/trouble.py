"""What can go wrong between a journal and MLflow, and the note of it that stages read."""

import re
from contextlib import suppress
from pathlib import Path

from darkroom.tracking.address import Address, redact
from darkroom.tracking.journal.file import JOURNALS

LENGTH = 300
"""Of a reason, in characters."""


class OutOfReach(Exception):
    """MLflow does not answer, or not as it should; later it may."""


class Refused(Exception):
    """MLflow does not take this, and never will."""


def reason(error: Exception) -> str:
    """Says in a few words why MLflow is out of reach: HTTP libraries say it inside many others."""
    text = f"{error}".partition("\n")[0] or type(error).__name__
    if found := re.search(r"\[Errno \d+\] ([^\"')\]]+)", text):
        text = found[1]
    elif "timed out" in text.lower():
        text = "no answer in time"
    return redact(text)[:LENGTH]


def note_trouble(root: Path, address: Address, trouble: str) -> None:
    """Notes why ``address`` is out of reach."""
    with suppress(OSError):
        _note(root, address).write_text(trouble, encoding="utf-8")


def end_trouble(root: Path, address: Address) -> None:
    """Notes that ``address`` answers."""
    with suppress(OSError):
        _note(root, address).unlink(missing_ok=True)


def read_trouble(root: Path, address: Address, since: float = 0.0) -> str | None:
    """Returns why ``address`` is out of reach; None where it is not, as far as is known.

    Args:
        since: a note from before this time, in seconds since 1970, is too old.
    """
    note = _note(root, address)
    try:
        return note.read_text(encoding="utf-8") or None if note.stat().st_mtime >= since else None
    except OSError:
        return None


def _note(root: Path, address: Address) -> Path:
    return root / JOURNALS / f"trouble-{address.digest}.txt"
