"""The one exception for mistakes that a person can mend."""

import difflib
from collections.abc import Iterable


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
    return f"; did you mean {near}?" if near else ""
