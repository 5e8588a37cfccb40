"""The values that the text of a cell can stand for: numbers, booleans, dates, categories."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MISSING_WORDS = ("na", "n/a", "nan", "null", "none", "?", "-")
"""In lower case. They mean a missing cell in columns of numbers, booleans and dates; in a column of
categories they are a category, because there ``none`` can be an answer."""

TRUE_WORDS = ("true", "yes", "y", "t")
FALSE_WORDS = ("false", "no", "n", "f")

FIRST_YEAR, LAST_YEAR = 1900, 2100
"""Other years are usually placeholders, such as 9999-12-31."""

_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
INFINITE = r"^[+-]?(?i:inf|infinity)$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?$"


def without_missing_words(cells: pa.StringArray) -> pa.StringArray:
    """Return cells with null for words that mean a missing number, boolean or date."""
    is_missing = pc.is_in(pc.utf8_lower(cells), pa.array(MISSING_WORDS))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), cells)


def matches(cells: pa.StringArray, pattern: str) -> NDArray[np.bool_]:
    """Return which cells match a regular expression; missing ones do not."""
    return pc.fill_null(pc.match_substring_regex(cells, pattern), False).to_numpy(zero_copy_only=False)


def is_number(cells: pa.StringArray) -> NDArray[np.bool_]:
    """Return which cells are decimal numbers without leading zeros, or infinite."""
    return matches(cells, _NUMBER) | matches(cells, INFINITE)


def is_boolean(cells: pa.StringArray) -> NDArray[np.bool_]:
    """Return which cells are a word for true or false."""
    words = pa.array(TRUE_WORDS + FALSE_WORDS)
    return pc.is_in(pc.utf8_lower(cells), words).to_numpy(zero_copy_only=False)


def is_date(cells: pa.StringArray) -> NDArray[np.bool_]:
    """Return which cells are dates in ISO 8601, with or without a time, without a time zone."""
    is_like = matches(cells, _DATE)
    # days that do not exist pass the pattern and are refused by the cast, of all cells at once
    for row in np.flatnonzero(is_like):
        try:
            np.datetime64(cells[row].as_py())
        except ValueError:
            is_like[row] = False
    return is_like


def as_numbers(cells: pa.StringArray) -> NDArray[np.float64]:
    """Return cells of which each is missing or a number: float64 ``(n,)``, NaN if it is missing."""
    numbers = pc.cast(without_missing_words(cells), pa.float64())
    return pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)


def as_booleans(cells: pa.StringArray) -> pa.StringArray:
    """Return cells of which each is missing, true or false, as the categories ``true`` and ``false``."""
    lower = pc.utf8_lower(without_missing_words(cells))
    words = pc.if_else(pc.is_in(lower, pa.array(TRUE_WORDS)), "true", "false")
    return pc.if_else(pc.is_valid(lower), words, pa.scalar(None, pa.string()))


def date_parts(cells: pa.StringArray) -> dict[str, NDArray[np.float64]]:
    """Return the parts of cells of which each is missing or a date: float64 ``(n,)``, NaN if missing.

    ``days`` are since 1970-01-01, with the time as a fraction; ``month`` is 1 to 12, ``day`` 1 to 31,
    ``weekday`` 0 (Monday) to 6, ``hour`` 0 to 23.
    """
    moments = pc.cast(without_missing_words(cells), pa.timestamp("us"))
    days = pc.divide(pc.cast(pc.cast(moments, pa.int64()), pa.float64()), 86_400_000_000.0)
    parts = {
        "days": days,
        "month": pc.month(moments),
        "day": pc.day(moments),
        "weekday": pc.day_of_week(moments),
        "hour": pc.hour(moments),
    }
    return {
        name: pc.fill_null(pc.cast(part, pa.float64()), np.nan).to_numpy(zero_copy_only=False)
        for name, part in parts.items()
    }
