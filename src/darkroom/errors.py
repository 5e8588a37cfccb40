"""The exception for mistakes of the user, and the words that messages are built from."""

import difflib
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[^\s,;'\"`]+( [^\s,;'\"`]+)*")
_TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")


class UserError(Exception):
    """A mistake that the user can correct.

    The message says what was given, where, what is allowed and what to do. It is printed without a
    traceback, and the program exits with status 2.
    """


def closest(given: str, allowed: Iterable[str]) -> str:
    """Return the name in ``allowed`` that is closest to ``given``, or an empty string."""
    by_lower = {name.lower(): name for name in allowed}
    nearest = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[nearest[0]] if nearest else ""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean NAME?"`` with the closest name in ``allowed``, or an empty string."""
    near = closest(given, allowed)
    return f"; did you mean {listed([near])}?" if near else ""


def listed(names: Iterable[object], most: int | None = None) -> str:
    """Return names joined by commas; names with punctuation or control characters are in quotes.

    Args:
        most: maximum number of names; the rest are counted.
    """
    every = [f"{name}" for name in names]
    shown = [name if _is_plain(name) else repr(name) for name in every[:most]]
    more = len(every) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def counted(number: int, noun: str) -> str:
    """Return ``1 image`` or ``2 images``, ``1 class`` or ``2 classes``, with a comma in thousands."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def _is_plain(name: str) -> bool:
    return name.isprintable() and _PLAIN.fullmatch(name) is not None


def brief(error: BaseException | str, most: int = 300) -> str:
    """Return the text of a library's error for use inside a message of ours.

    This is the first line that is not empty, without colour codes and trailing punctuation, cut between
    words after ``most`` characters. For an error without text it is the name of the error's type.
    """
    text = _TERMINAL_CODES.sub("", f"{error}")
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = next(filter(None, lines), "").rstrip(" .:;,-")
    if not line:
        return error if isinstance(error, str) else type(error).__name__
    return line if len(line) <= most else line[:most].rpartition(" ")[0] + " ..."
