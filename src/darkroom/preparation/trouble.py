"""Everything that keeps a collection from being prepared, gathered so that one run tells all of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble."""

    title: str
    """A few words, as a heading."""
    message: str
    """What is wrong, how often, the first examples, and which parameter decides."""
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    """``(m, 2)``: the pairs of candidates that it is about, if any."""
    differences: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``(m,)``: how far each pair is apart, 0 for the same pixels."""


class Troubles:
    """Gathers trouble while a stage goes through its checks."""

    def __init__(self) -> None:
        self._found: list[Trouble] = []

    def __iter__(self) -> Iterator[Trouble]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, trouble: Trouble) -> None:
        """Notes one more kind of trouble."""
        self._found.append(trouble)

    def refuse(self, page: str = "") -> None:
        """Stops if there is any trouble.

        Args:
            page: where it can be looked at, if anywhere.

        Raises:
            UserError: with the messages of all kinds.
        """
        if not self._found:
            return
        parts = [trouble.message for trouble in self._found]
        if len(parts) > 1:
            parts.insert(0, f"{len(parts)} kinds of trouble stop prepare:")
        if page:
            parts.append(f"All of this, with pictures of the pairs, is in {page}")
        raise UserError(("\n\n" if len(parts) > 2 else "\n").join(parts))
