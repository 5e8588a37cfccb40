"""Which cases of a long list the quick tests take; the rest are slow."""

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet


def quick_first(quick: Iterable[str], names: Iterable[str]) -> list[ParameterSet]:
    """Returns the names as cases of `parametrize`, slow but for the quick ones."""
    chosen, cases = set(quick), list(names)
    assert chosen <= set(cases), f"no such cases: {chosen - set(cases)}"
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.slow) for name in cases]
