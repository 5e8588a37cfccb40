"""Calls again what failed because another process wrote the same row of MLflow's database.

MLflow looks for a row and then adds it; of two processes that do so at once, for example the first
stages of two projects, the second is refused by the database. The call succeeds when it is repeated.
"""

import re
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

PAUSES_SECONDS = (0.05, 0.2, 0.8)
"""Pauses before each further attempt."""

# SQLAlchemy's code of an IntegrityError, which a server passes on in the text of its answer alone
_INTEGRITY_ERROR = re.compile(r"sqlalche\.me/e/\w+/gkpj\b")


def again_on_conflict(action: Callable[[], Result]) -> Result:
    """Return the result of ``action``, called again while it conflicts with another process.

    ``action`` must be repeatable: MLflow has undone the call that failed, but not those before it.

    Raises:
        Exception: what ``action`` raises, if it is not a conflict or the conflict lasts.
    """
    for pause in PAUSES_SECONDS:
        try:
            return action()
        except Exception as error:
            if not is_conflict(error):
                raise
        time.sleep(pause)
    return action()


def is_conflict(error: Exception) -> bool:
    """Return whether MLflow refused a row because it has one with the same key."""
    exists = getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS"
    return exists or _INTEGRITY_ERROR.search(f"{error}") is not None
