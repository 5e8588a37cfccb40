"""Select what a report shows of a confusion matrix: all of it, or the classes confused most often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.metrics.counts import Counts

MAX_CLASSES = 40
"""Maximum number of classes for which the whole matrix is readable."""
NUM_SHOWN = 25
"""Number of classes that are shown of a larger matrix."""
NUM_LISTED = 30
"""Maximum number of listed confusions."""


@dataclass(frozen=True)
class Confusion:
    """The images of one class that were predicted as another."""

    true: str
    predicted: str
    count: int
    cell: tuple[int, int]
    """Row and column of the confusion matrix."""
    share: float
    """Fraction of all images of the true class, 0..1."""


@dataclass(frozen=True)
class Matrix:
    """The rows and columns of a confusion matrix that are shown."""

    row_names: list[str]
    column_names: list[str]
    """The same names; for a part of the matrix also ``other classes``, the sum of all other columns."""
    counts: NDArray[np.int64]
    """``(rows, columns)``: rows are true classes, columns are predicted classes."""
    shares: NDArray[np.float64]
    """Counts as fractions of all images of the true class, 0..1; 0 for a class without images."""
    indices: list[int]
    """The rows of the whole matrix that are shown."""

    @property
    def is_whole(self) -> bool:
        """Whether no class is omitted."""
        return self.row_names == self.column_names


def shown_matrix(counts: NDArray[np.int64], class_names: Sequence[str]) -> Matrix:
    """Return the whole matrix, or the 25 classes confused most often if there are more than 40.

    Args:
        counts: int64 ``(num_classes, num_classes)``: rows are true, columns predicted classes.
    """
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(class_names) <= MAX_CLASSES:
        names = list(class_names)
        return Matrix(names, names, counts, counts / totals, list(range(len(names))))
    shown = most_confused(counts, NUM_SHOWN)
    rows = counts[shown]
    rest = rows.sum(axis=1, keepdims=True) - rows[:, shown].sum(axis=1, keepdims=True)
    part = np.concatenate([rows[:, shown], rest], axis=1)
    names = [class_names[index] for index in shown]
    return Matrix(names, [*names, "other classes"], part, part / totals[shown], shown)


def most_confused(counts: NDArray[np.int64], most: int) -> list[int]:
    """Return up to ``most`` classes of the most frequent confusions, in class order.

    If these are fewer, the first of the other classes are added.
    """
    chosen: dict[int, None] = {}
    for true, pred, _ in _confusions(counts):
        if len(chosen) + len({true, pred} - chosen.keys()) > most:
            break
        chosen |= dict.fromkeys((true, pred))
    others = (index for index in range(len(counts)) if index not in chosen)
    return sorted(
        [*chosen, *(index for index, _ in zip(others, range(most - len(chosen)), strict=False))]
    )


def most_mistaken(counts: Counts) -> list[int]:
    """Return all labels, or the 40 with the most mistakes, in label order."""
    mistakes = counts.false_positives + counts.false_negatives
    return sorted(mistakes.argsort(descending=True, stable=True)[:MAX_CLASSES].tolist())


def frequent_confusions(counts: NDArray[np.int64], class_names: Sequence[str]) -> list[Confusion]:
    """Return up to 30 confusions, the most frequent first."""
    totals = counts.sum(axis=1)
    return [
        Confusion(class_names[true], class_names[pred], count, (true, pred), count / int(totals[true]))
        for true, pred, count in _confusions(counts)[:NUM_LISTED]
    ]


def _confusions(counts: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return true class, predicted class and count, by descending count, then in class order."""
    true, pred = np.nonzero(counts)
    wrong = true != pred
    true, pred = true[wrong], pred[wrong]
    order = np.argsort(-counts[true, pred], kind="stable")
    return [(int(true[i]), int(pred[i]), int(counts[true[i], pred[i]])) for i in order]
