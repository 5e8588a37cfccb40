"""Puts off the import of torch's compiler, a second or more, until something needs it.

torch's optimizers import ``torch._dynamo`` only to tell it where a graph must break. Where nothing is
compiled nobody listens.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"


def put_off_dynamo() -> None:
    """Lets a stand-in answer for ``torch._dynamo`` until more is asked of it than optimizers ask."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = _StandIn(_NAME)


class _StandIn(ModuleType):
    def graph_break(self) -> None:
        """There is no graph."""

    def disable(self, function: Callable, *_: Any, **__: Any) -> Callable:
        """Returns ``function``, which is not compiled anyway."""
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)  # who looks through all modules, as inspect does, wants nothing
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)
