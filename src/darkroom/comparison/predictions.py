"""The predictions of one model on its test images, from the files of ``evaluate``."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.comparison.targets.interface import compared_target
from darkroom.errors import UserError, brief
from darkroom.inputs import INPUT_WORDS, Input, InputWords
from darkroom.targets import Target, target_of_metrics

Counted = NDArray[Any]
"""Booleans of labels, int64 numbers of pixels of masks."""

Key = tuple[str, int]
"""The path of an image, and how many images of the same path come before it."""


class NotComparableError(UserError):
    """Two models cannot be compared, and no repair would change this."""


@dataclass(frozen=True)
class Predictions:
    """What a model predicted for its test images."""

    class_names: tuple[str, ...]
    target: Target
    keys: tuple[Key, ...]
    targets: Counted
    """``(n, num_classes)``: the true class or labels, or the pixels of each class."""
    hits: Counted
    """``(n, num_classes)``: what of it is predicted."""
    preds: Counted
    """``(n, num_classes)``: the predicted class or labels, or the pixels predicted as each class."""
    probabilities: NDArray[np.float64]
    """``(n, num_classes)``, 0..1; of masks ``(n, 0)``."""
    input: Input = "image"

    @classmethod
    def parse(cls, predictions: bytes, metrics: bytes, place: str) -> Self:
        """Read predictions.parquet and metrics.json.

        Args:
            place: where the files are from, for messages.

        Raises:
            UserError: a file is damaged, or not written by darkroom.
        """
        try:
            test = json.loads(metrics)["test"]
            per_class = test["per_class"]
            # rows with names since metrics.json is a list of classes; before, a mapping
            names = (
                tuple(row["class"] for row in per_class) if isinstance(per_class, list) else per_class
            )
            names = tuple(names)
            table = read_parquet(predictions)
            target = target_of_metrics(test)
            outcomes = compared_target(target).read(table, names)
            keys = tuple(_keys(table["path"].to_pylist()))
            parsed = cls(names, target, keys, *outcomes)  # type: ignore[arg-type]
            return replace(parsed, input=test.get("input", "image"))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{place}: predictions.parquet or metrics.json is damaged, or not written by darkroom "
                f"({brief(error)})"
            ) from None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def words(self) -> InputWords:
        """The words for what was predicted from."""
        return INPUT_WORDS[self.input]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.keys]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether every label of an image is as predicted, ``(n,)``."""
        same: NDArray[np.bool_] = (self.targets == self.preds).all(axis=1)
        return same

    def truth(self, index: int) -> str:
        """Return the true class or labels of an image."""
        return self._named(self.targets[index])

    def pred(self, index: int) -> str:
        """Return the predicted class or labels of an image."""
        return self._named(self.preds[index])

    def _named(self, row: NDArray[np.bool_]) -> str:
        return "|".join(self.class_names[index] for index in np.flatnonzero(row)) or "no label"

    def at(self, indices: Sequence[int]) -> Self:
        """Return the predictions for some of the images, in this order."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            keys=tuple(self.keys[index] for index in indices),
            targets=self.targets[rows],
            hits=self.hits[rows],
            preds=self.preds[rows],
            probabilities=self.probabilities[rows],
        )

    def with_classes(self, class_names: tuple[str, ...]) -> Self:
        """Return the same predictions with the classes in another order."""
        order = [self.class_names.index(name) for name in class_names]
        return replace(
            self,
            class_names=class_names,
            targets=self.targets[:, order],
            hits=self.hits[:, order],
            preds=self.preds[:, order],
            probabilities=self.probabilities[:, order]
            if self.probabilities.size
            else self.probabilities,
        )


def read_parquet(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table in a Parquet file, read in this thread.

    A process that ends while Arrow's threads are starting may be aborted.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(columns, use_threads=False)


def _keys(paths: Sequence[str]) -> list[Key]:
    seen: Counter[str] = Counter()
    keys = []
    for path in paths:
        keys.append((path, seen[path]))
        seen[path] += 1
    return keys
