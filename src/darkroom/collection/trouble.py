"""Collects everything that stops ``prepare``, so that one run reports all of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError


@dataclass(frozen=True)
class Trouble:
    """One kind of mistake in the data."""

    title: str
    """A heading of a few words."""
    message: str
    """What is wrong, how often, the first examples, and the parameter that decides about it."""
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    """``(m, 2)``: the pairs of candidates at fault, if any."""
    differences: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``(m,)``: the difference of each pair, 0 for the same pixels."""


class Troubles:
    """The mistakes found so far. Empty if there are none."""

    def __init__(self) -> None:
        self._found: list[Trouble] = []

    def __iter__(self) -> Iterator[Trouble]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, trouble: Trouble) -> None:
        """Add one kind of mistake."""
        self._found.append(trouble)

    def refuse(self, page: str = "") -> None:
        """Raise all mistakes, if there are any, as one error.

        Args:
            page: a page that shows them, if there is one.

        Raises:
            UserError: there are mistakes; the message joins theirs.
        """
        if not self._found:
            return
        parts = [trouble.message for trouble in self._found]
        if len(parts) > 1:
            parts.insert(0, f"{len(parts)} kinds of mistakes stop prepare:")
        if page:
            parts.append(f"{page} shows all of this, with pictures of the pairs")
        raise UserError(("\n\n" if len(parts) > 2 else "\n").join(parts))
