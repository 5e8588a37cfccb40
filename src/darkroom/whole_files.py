"""Files that are complete or missing, whenever a process is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def save_array(array: "NDArray[Any]", path: Path) -> None:
    """Replace the file at ``path`` by an array, for ``numpy.load``."""
    import numpy as np  # not before run_stage has pinned the instruction set

    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, array)
