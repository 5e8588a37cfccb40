"""The one exception for mistakes that a person can mend."""

import difflib
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[^\s,;'\"`]+( [^\s,;'\"`]+)*")
_TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")


class UserError(Exception):
    """A mistake its reader can mend.

    The message says what was given, where, what is allowed and what to do. It is printed
    without a traceback and ends the program with exit status 2.
    """


def closest(given: str, allowed: Iterable[str]) -> str:
    """Returns the one of ``allowed`` that is most like ``given``, or an empty string."""
    by_lower = {name.lower(): name for name in allowed}
    nearest = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[nearest[0]] if nearest else ""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Returns ``"; did you mean NAME?"`` for the closest of ``allowed``, or an empty string."""
    near = closest(given, allowed)
    return f"; did you mean {listed([near])}?" if near else ""


def listed(names: Iterable[object], most: int | None = None) -> str:
    """Returns names joined by commas, in quotes where a reader could not tell where one ends.

    Args:
        most: name at most this many, and say how many more there are.
    """
    every = [f"{name}" for name in names]
    shown = [name if _is_plain(name) else repr(name) for name in every[:most]]
    more = len(every) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 file``, ``2,000 files``; ``1 class``, ``2 classes``."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {noun}{ending}"


def _is_plain(name: str) -> bool:
    return name.isprintable() and _PLAIN.fullmatch(name) is not None


def brief(error: BaseException | str, most: int = 300) -> str:
    """Returns what a library's error says, as a part of a message of ours.

    That is its first line, without colour codes, closing punctuation and what only leads to the next
    line, cut between words after ``most`` characters. An error without a text is named by its type.
    """
    text = _TERMINAL_CODES.sub("", f"{error}")
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = next(filter(None, lines), "").rstrip(" .:;,-")
    if not line:
        return error if isinstance(error, str) else type(error).__name__
    return line if len(line) <= most else line[:most].rpartition(" ")[0] + " ..."
