"""Sets of labels of an image, as text, and as classes; with one class per image, sets of one."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class LabelSets:
    """The different sets of classes that the images of a collection have."""

    names: list[str]
    """Sorted texts, such as ``cat`` or ``cat|dog``; empty for the empty set."""
    members: csr_array
    """int64 ``(num_sets, num_classes)``: 1 if a class is in a set."""

    def classes(self, index: int) -> list[int]:
        """Return the classes in one set, in ascending order."""
        start, stop = self.members.indptr[index : index + 2]
        return self.members.indices[start:stop].tolist()

    def keys(self) -> NDArray[np.int64]:
        """Return a hash of the classes in each set, independent of the separator: ``(num_sets,)``."""
        classes = self.members.indices.astype("<i8")
        sets = (classes[start:stop].tobytes() for start, stop in pairwise(self.members.indptr))
        return np.frombuffer(b"".join(hashlib.sha256(codes).digest()[:8] for codes in sets), "<i8")


def join_labels(labels: Iterable[str], separator: str) -> str:
    """Return a set of labels as text: stripped, sorted, without duplicates, joined by ``separator``.

    Raises:
        ValueError: a label is empty, or ``split_labels`` would return other labels.
    """
    unique = sorted({label.strip() for label in labels})
    if "" in unique:
        raise ValueError(f"one of which is empty; write exactly one {separator!r} between labels")
    text = separator.join(unique)
    if split_labels(text, separator) != unique:
        raise ValueError(
            f"in which {separator!r} is also part of a label; set data.label_separator to text that no"
            " label contains"
        )
    return text


def split_labels(text: str, separator: str | None) -> list[str]:
    """Return the labels that ``join_labels`` has joined; without separator, the text is one label."""
    if separator is None:
        return [text]
    return text.split(separator) if text else []


def classes_in(texts: Iterable[str], separator: str | None) -> set[str]:
    """Return the classes that occur in texts of labels; see ``split_labels``."""
    return {label for text in texts for label in split_labels(text, separator)}


def make_label_sets(names: list[str], class_names: Sequence[str], separator: str | None) -> LabelSets:
    """Return the classes of each set.

    Args:
        names: different texts returned by ``join_labels``, or labels if there is no separator.
        class_names: all classes in ``names``, sorted.
    """
    codes = {name: code for code, name in enumerate(class_names)}
    sets = [[codes[label] for label in split_labels(name, separator)] for name in names]
    ends = np.cumsum([0, *map(len, sets)])
    indices = np.array([code for codes_of_set in sets for code in codes_of_set], np.int64)
    shape = (len(names), len(class_names))
    return LabelSets(names, csr_array((np.ones_like(indices), indices, ends), shape=shape))
