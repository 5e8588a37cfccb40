"""How much is done of what can be repeated for ever: a sample, or all of it if ``ALL_TESTS=1``."""

import os

import pytest

ALL = os.environ.get("ALL_TESTS") == "1"

only_with_all = pytest.mark.skipif(not ALL, reason="takes long and is like others: ALL_TESTS=1 runs it")


def at_least(sample: int, everything: int) -> int:
    """Returns how often something is repeated."""
    return everything if ALL else sample
