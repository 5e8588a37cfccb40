"""What can go wrong between a journal and MLflow, and the note of it that stages read."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from darkroom.errors import brief
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS
from darkroom.tracking.journal.private import open_private
from darkroom.tracking.secrets import redact

LENGTH = 300
"""Of a reason, in characters."""


class OutOfReach(Exception):
    """MLflow does not answer, or not as it should; later it may."""


class Misconfigured(OutOfReach):
    """MLflow takes no run before somebody changes something; the message says what."""


class Refused(Exception):
    """MLflow does not take this, and never will."""


class Trouble(NamedTuple):
    """Why a run cannot be sent."""

    text: str
    may_pass: bool
    """Whether waiting may help: MLflow is out of reach, not misconfigured."""

    @classmethod
    def of(cls, error: OutOfReach) -> "Trouble":
        return cls(f"{error}", not isinstance(error, Misconfigured))

    def sentence(self, address: Address) -> str:
        """Says what is the matter with ``address``."""
        return f"{address} is out of reach ({self.text})" if self.may_pass else self.text


def reason(error: Exception) -> str:
    """Says in a few words why MLflow is out of reach: HTTP libraries say it inside many others."""
    text = brief(error, len(f"{error}") + 1)
    if found := re.search(r"\[Errno \d+\] ([^\"')\]]+)", text):
        text = found[1]
    elif "timed out" in text.lower():
        text = "no answer in time"
    return brief(redact(text), LENGTH)


def note_trouble(root: Path, address: Address, trouble: Trouble) -> None:
    """Notes why no run can be sent to ``address``."""
    with suppress(OSError), open_private(_note(root, address), "wb") as file:
        file.write(json.dumps(trouble._asdict()).encode())


def end_trouble(root: Path, address: Address) -> None:
    """Notes that ``address`` answers."""
    with suppress(OSError):
        _note(root, address).unlink(missing_ok=True)


def read_trouble(root: Path, address: Address, since: float = 0.0) -> Trouble | None:
    """Returns why no run can be sent to ``address``; None if all is well, as far as is known.

    Args:
        since: a note from before this time, in seconds since 1970, is too old.
    """
    note = _note(root, address)
    try:
        if note.stat().st_mtime < since:
            return None
        return Trouble(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it may be half written
        return None


def _note(root: Path, address: Address) -> Path:
    return root / JOURNALS / f"trouble-{address.digest}.txt"
