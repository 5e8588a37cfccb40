"""The settings of DVC and git, which may hold passwords."""

from functools import lru_cache
from pathlib import Path

MAX_BYTES = 2**20
"""Number of characters of a file that are read."""


@lru_cache(maxsize=8)
def settings_above(folder: str) -> tuple[tuple[str, str], ...]:
    """Return names and values in the DVC and git settings of the project that contains ``folder``."""
    found = []
    for parent in (Path(folder), *Path(folder).parents):
        for name in (".dvc/config", ".dvc/config.local", ".git/config"):
            try:
                with (parent / name).open(encoding="utf-8", errors="surrogateescape") as file:
                    lines = file.read(MAX_BYTES).splitlines()
            except OSError:
                continue
            for line in lines:
                option, _, value = line.partition("=")
                found.append((option.strip(), value.strip().strip("\"'")))
    return tuple(found)
