"""How much of what could be repeated for ever is done: a sample in CI, and all of it on request."""

import os

ALL = os.environ.get("ALL_TESTS") == "1"


def at_least(sample: int, everything: int) -> int:
    """Returns how often something is repeated."""
    return everything if ALL else sample
