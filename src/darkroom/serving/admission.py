"""Counts what all requests together hold, so that memory is bounded: images, and bytes of bodies."""

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.serving.refusal import busy


class Admission:
    """How many units are taken of those that there are. Used in the thread of the event loop only.

    Args:
        most: number of units that can be taken at once.
        name: of the units, for messages.
    """

    def __init__(self, most: int, name: str) -> None:
        self.taken = 0
        self._most = most
        self._name = name

    @contextmanager
    def take(self, number: int) -> Iterator["Taken"]:
        """Take units until the block ends, where more can be taken.

        Raises:
            Refusal: there are too few.
        """
        taken = Taken(self)
        try:
            taken.more(number)
            yield taken
        finally:
            self.taken -= taken.number

    def check(self, number: int) -> None:
        """Raise Refusal if there are too few units."""
        if self.taken + number > self._most:
            raise busy(f"too many requests: at most {self._most:,} {self._name} are held at once")


class Taken:
    """The units of one request."""

    def __init__(self, admission: Admission) -> None:
        self.number = 0
        self._admission = admission

    def more(self, number: int) -> None:
        """Take more units; raise Refusal if there are too few."""
        self._admission.check(number)
        self._admission.taken += number
        self.number += number
