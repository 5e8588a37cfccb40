"""What a collection consists of: one entry for every file found, and the place that holds the files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What splits are called, in small letters."""


def split_called(name: str) -> Split | None:
    """Returns the split of a name in any case, with or without blanks around it; None: no split's."""
    return SPLIT_NAMES.get(name.strip().lower())


Outcome = Literal[
    "used",
    "empty",
    "not an image",
    "truncated",
    "unreadable",
    "too large",
    "missing",
    "outside",
    "conflicting label",
    "duplicate",
    "hidden",
    "unlisted",
    "sidecar",
]
"""What became of a file; each has exactly one."""

BAD: tuple[Outcome, ...] = (
    "empty",
    "not an image",
    "truncated",
    "unreadable",
    "too large",
    "missing",
    "outside",
)
"""Outcomes that stop ``prepare``, unless ``prepare.on_bad_image`` is ``skip``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a collection."""

    path: str
    """Relative to the collection, with ``/``."""
    label: str | None = None
    """A class; where an image may have several, as ``labels.join_labels`` writes them."""
    split: Split | None = None
    """The split that the collection itself gives."""
    group: str | None = None
    """Images of one group (a patient, a scene) stay in one split."""
    weight: float | None = None
    outcome: Outcome | None = None
    """None: to be read; else why it is not."""
    reason: str = ""
    offset: int = 0
    """Where its bytes start, in a place that holds many files in one."""
    size: int = 0
    """In bytes."""


class Files(Protocol):
    """A place that holds files: cheap to pickle, opened again in each worker process."""

    name: str
    """The folder or archive, for messages."""

    def entries(self) -> Iterator[Entry]:
        """Yields every file, in any order, unlabelled.

        Hidden files, and links or members that leave the place, have their outcome set.
        """
        ...

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Returns the bytes of one file.

        Raises:
            OSError: it cannot be read.
        """
        ...
