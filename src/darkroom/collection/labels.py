"""Several labels an image: sets of classes as text, and which classes are in each set."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class LabelSets:
    """The sets of classes that the images of a collection have."""

    names: list[str]
    """Sorted texts, as ``join_labels`` returns them: ``cat|dog``; empty for the set of none."""
    members: csr_array
    """int64 ``(num_sets, num_classes)``: 1 where a class is in a set."""

    def classes(self, index: int) -> list[int]:
        """Returns the classes in one set, ascending."""
        start, stop = self.members.indptr[index : index + 2]
        return self.members.indices[start:stop].tolist()

    def keys(self) -> NDArray[np.int64]:
        """Returns a hash of the classes in each set, which no separator changes: ``(num_sets,)``."""
        classes = self.members.indices.astype("<i8")
        sets = (classes[start:stop].tobytes() for start, stop in pairwise(self.members.indptr))
        return np.frombuffer(b"".join(hashlib.sha256(each).digest()[:8] for each in sets), "<i8")


def join_labels(labels: Iterable[str], separator: str) -> str:
    """Returns the text of a set of labels: stripped, sorted, each once, ``separator`` in between.

    Raises:
        ValueError: a label is empty, or ``split_labels`` would find other labels in the text.
    """
    unique = sorted({label.strip() for label in labels})
    if "" in unique:
        raise ValueError(f"of which one is empty; write labels with one {separator!r} between two")
    text = separator.join(unique)
    if split_labels(text, separator) != unique:
        raise ValueError(
            f"in which {separator!r} is a part of labels too; set data.label_separator to text that no"
            " label has"
        )
    return text


def split_labels(text: str, separator: str) -> list[str]:
    """Returns the labels that ``join_labels`` has joined."""
    return text.split(separator) if text else []


def classes_in(texts: Iterable[str], separator: str | None) -> set[str]:
    """Returns the classes that occur in labels, each of which is one class if there is no separator."""
    if separator is None:
        return set(texts)
    return {label for text in texts for label in split_labels(text, separator)}


def make_label_sets(names: list[str], class_names: Sequence[str], separator: str) -> LabelSets:
    """Finds the classes in each set.

    Args:
        names: different texts that ``join_labels`` has returned.
        class_names: sorted, all that occur in ``names``.
    """
    codes = {name: code for code, name in enumerate(class_names)}
    sets = [[codes[label] for label in split_labels(name, separator)] for name in names]
    ends = np.cumsum([0, *map(len, sets)])
    indices = np.array([code for each in sets for code in each], np.int64)
    shape = (len(names), len(class_names))
    return LabelSets(names, csr_array((np.ones_like(indices), indices, ends), shape=shape))
