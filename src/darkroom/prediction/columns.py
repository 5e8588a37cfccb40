"""A column of a table of predictions."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """Name and kind of the cells of a column, which are texts as in CSV."""

    name: str
    kind: Literal["text", "number", "flag"] = "text"
    """A flag is ``true`` or ``false``."""
