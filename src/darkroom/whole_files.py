"""Files that are complete or missing, whenever a process is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that replaces ``path`` when the block ends.

    If the block fails, ``path`` is unchanged. A process that has mapped the earlier file keeps it.
    """
    part = path.with_suffix(".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_array(array: NDArray[np.generic], path: Path) -> None:
    """Replace the file at ``path`` by an array, for ``numpy.load``."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, array)
