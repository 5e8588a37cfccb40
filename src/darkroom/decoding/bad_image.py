"""Why an image file cannot be used."""

from darkroom.collection.entries import Outcome


class BadImage(Exception):
    """An image file that cannot be used.

    Args:
        outcome: "empty", "not an image", "truncated" (the file ends before the bytes that it
            announces), "unreadable" (damaged or unsupported content) or "too large".
        reason: a few words.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(outcome, reason)  # both, so that it can be pickled
        self.outcome = outcome
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
