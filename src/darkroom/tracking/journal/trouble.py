"""Failures between a journal and MLflow, and the note about them that stages read."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from darkroom.bounded_json import load_json
from darkroom.errors import brief
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS
from darkroom.tracking.journal.private import open_private
from darkroom.tracking.secrets.redaction import redact

LENGTH = 300
"""Maximum length of a reason in characters."""


class OutOfReach(Exception):
    """MLflow does not answer properly, but may do so later."""


class Misconfigured(OutOfReach):
    """MLflow refuses every run until somebody changes something; the message says what."""


class Refused(Exception):
    """MLflow refuses this record and always will."""


class Trouble(NamedTuple):
    """Why a run cannot be sent."""

    text: str
    may_pass: bool
    """Whether waiting may help: MLflow is out of reach, not misconfigured."""

    @classmethod
    def of(cls, error: OutOfReach) -> "Trouble":
        return cls(f"{error}", not isinstance(error, Misconfigured))

    def sentence(self, address: Address) -> str:
        """Say what is wrong with ``address``."""
        return f"{address} is out of reach ({self.text})" if self.may_pass else self.text


def reason(error: Exception) -> str:
    """Return in a few words why MLflow is out of reach, which HTTP libraries bury in other words."""
    text = brief(error, len(f"{error}") + 1)
    if found := re.search(r"\[Errno \d+\] ([^\"')\]]+)", text):
        text = found[1]
    elif "timed out" in text.lower():
        text = "no answer in time"
    return brief(redact(text), LENGTH)


def note_trouble(root: Path, address: Address, trouble: Trouble) -> None:
    """Write down why no run can be sent to ``address``."""
    with suppress(OSError), open_private(_note(root, address), "wb") as file:
        file.write(json.dumps(trouble._asdict()).encode())


def end_trouble(root: Path, address: Address) -> None:
    """Write down that ``address`` answers."""
    with suppress(OSError):
        _note(root, address).unlink(missing_ok=True)


def read_trouble(root: Path, address: Address, since: float = 0.0) -> Trouble | None:
    """Return why no run can be sent to ``address``; None if there is no known trouble.

    Args:
        since: ignore notes from before this time, in seconds since 1970.
    """
    note = _note(root, address)
    try:
        if note.stat().st_mtime < since:
            return None
        return Trouble(**load_json(note))
    except (OSError, ValueError, TypeError):  # it may be half written
        return None


def _note(root: Path, address: Address) -> Path:
    return root / JOURNALS / f"trouble-{address.digest}.txt"
