"""Explains in one line what the system refused (space, permission, memory, open files), and where."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from darkroom.errors import brief
from darkroom.paths import CACHE, EXPORT, MODEL, PREPARED, REPORT_EVALUATE, REPORT_PREPARE, REPORT_TRAIN

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_LITTLE_BYTES = 2**20

_REMEDIES = {
    errno.ENOSPC: "make room, then run again: what is finished is kept",
    errno.EDQUOT: "make room in your quota, then run again: what is finished is kept",
    errno.EFBIG: "the limit on the size of a file (ulimit -f) is too low",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or set DARKROOM_WORKERS to fewer",
    errno.ENFILE: "the system has too many open files; end other programs",
    errno.EROFS: "it is read-only there; write elsewhere, or mount it writable",
    errno.EACCES: "change its permissions, or run as its owner",
    errno.EPERM: "change its permissions, or run as its owner",
}

_KNOWN = {os.strerror(number).lower(): number for number in (*_REMEDIES, errno.ENOMEM, errno.EIO)}
_ARROW = re.compile(r"local file '(.+?)'")  # pyarrow names the file in its text alone
_RUST = re.compile(r"\(os error (\d+)\)")
_DATABASE = (
    "database or disk is full",
    "attempt to write a readonly database",
    "unable to open database file",
    "disk i/o error",
)


_WRITTEN = (
    PREPARED,
    MODEL.parent,
    REPORT_PREPARE,
    REPORT_TRAIN,
    REPORT_EVALUATE,
    EXPORT,
    CACHE,
    Path("mljournal"),
    Path(tempfile.gettempdir()),
    Path("/dev/shm"),
)
"""The places to which stages and commands write."""


def explain(error: BaseException) -> str | None:
    """Return one line that says what the system refused, or None if ``error`` has another cause.

    Libraries raise exceptions of their own if the disk is full; they are recognized by their text. If
    the error names no file, the file systems without space are named.
    """
    if isinstance(error, MemoryError):
        return "out of memory; run again with fewer DARKROOM_WORKERS, or a smaller batch"
    if isinstance(error, OSError):
        number = error.errno
        reason = os.strerror(number) if number in _REMEDIES else error.strerror or brief(error)
        # if a copy failed, the second is the target
        files = [os.fsdecode(name) for name in (error.filename2, error.filename) if _is_name(name)]
        files = files or _ARROW.findall(f"{error}")
    else:
        number = _number(f"{error}")
        if number is None:
            return None
        reason, files = os.strerror(number) if number in _REMEDIES else brief(error), []
    parts = [": ".join([*files[:1], reason])]
    if number in _NO_SPACE and (full := list(_full())):
        parts.append("full: " + ", ".join(full))
    if number in _REMEDIES:
        parts.append(_REMEDIES[number])
    return "; ".join(parts)


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes)


def _number(text: str) -> int | None:
    """Return the system's error number for an exception's text; None for other errors."""
    if found := _RUST.search(text):
        return int(found[1])
    lower = text.lower()
    if any(part in lower for part in _DATABASE):
        return errno.EIO
    return next((number for known, number in _KNOWN.items() if known in lower), None)


def _full() -> Iterator[str]:
    """Yield the places without free space, one per file system."""
    seen = set()
    for place in _WRITTEN:
        there = next((path for path in (place, *place.absolute().parents) if path.exists()), place)
        try:
            system, device = os.statvfs(there), there.stat().st_dev
        except OSError:
            continue
        if device not in seen and system.f_bavail * system.f_frsize < _LITTLE_BYTES:
            yield f"{place}"
        seen.add(device)
