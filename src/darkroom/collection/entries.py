"""The entries of a collection, one per file, and the interface of places that contain files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

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
"""The accepted names of each split, in lower case; the same for every kind of input."""


def split_called(name: str) -> Split | None:
    """Return the split that a name means, ignoring case and surrounding blanks; None: no split."""
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
"""How a file was used, or why it was not. Every file has exactly one outcome."""

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


class MaskFile(NamedTuple):
    """A file with the mask of an image, or with the part of one class."""

    path: str
    value: int = 0
    """The index in ``MaskClasses.files``, if each class has a file of its own."""
    offset: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a collection."""

    path: str
    """Relative to the collection, with ``/``."""
    label: str | None = None
    """A class; if images may have several labels, the text of ``labels.join_labels``."""
    split: Split | None = None
    """The split given by the collection."""
    group: str | None = None
    """Images of one group (a patient, a scene) get the same split."""
    weight: float | None = None
    own_values: str | None = None
    """Values of further columns of a manifest, as ``OwnColumns.pack`` returns."""
    outcome: Outcome | None = None
    """None: the file is to be read; otherwise why it is not."""
    reason: str = ""
    offset: int = 0
    """Where the bytes start, if the place stores many files in one."""
    size: int = 0
    """In bytes."""
    mask_files: tuple[MaskFile, ...] | None = None
    """The files of the image's mask, if classes belong to pixels; empty: the manifest names none."""


class Files(Protocol):
    """A place that contains files. It is cheap to pickle, and opened again in each worker process."""

    name: str
    """The folder or archive, for messages."""

    def entries(self) -> Iterator[Entry]:
        """Yield every file, in any order, without label.

        Hidden files, and links or members that lead out of the place, have an outcome.
        """
        ...

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            OSError: the file cannot be read.
        """
        ...
