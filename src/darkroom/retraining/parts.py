"""Parts of the prepared train and validation data, on which the network can be trained again."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.info import DatasetInfo
from darkroom.dataset.prepared import PreparedData
from darkroom.dataset.shards import Shards
from darkroom.dataset.subset import Subset
from darkroom.dataset.targets.interface import StoredTarget, check_labelled, stored_target
from darkroom.dataset.views import EvaluationView
from darkroom.inputs import INPUT_WORDS, InputWords
from darkroom.retraining.inputs.interface import RetrainedInput, retrained_input


class LabelledImages:
    """The prepared train and validation images, or rows, as one set, in this order.

    Args:
        command: of ``darkroom``, for messages.

    Raises:
        UserError: the images have masks.
    """

    def __init__(self, command: str) -> None:
        self.data = PreparedData()
        self.info = self.data.info
        check_labelled(self.info.target, command, "the data set")
        self.shards = self.open(None)

    def open(self, view: EvaluationView | None) -> Shards:
        parts = self.parts(view)
        return Subset(parts, np.arange(sum(map(len, parts))))

    def parts(self, view: EvaluationView | None) -> list[Shards]:
        return [self.data.open(split, view) for split in ("train", "val")]

    @property
    def target(self) -> StoredTarget:
        """The module of the kind of target."""
        return stored_target(self.info.target)

    @property
    def input(self) -> RetrainedInput:
        """The module of the kind of input."""
        return retrained_input(self.info.input)

    @property
    def words(self) -> InputWords:
        """The words for the images or rows."""
        return INPUT_WORDS[self.info.input]

    @cached_property
    def splits(self) -> list[str]:
        """The split of each image."""
        return [split for split in ("train", "val") for _ in range(self.info.num_images(split))]


@dataclass(frozen=True)
class Part:
    """Some labelled images, or rows, to train on, and others to validate on; see ``TrainingData``."""

    images: LabelledImages
    train_rows: NDArray[np.int64]
    """Positions of the training images, ``(n,)``. An image that is listed twice is used twice."""
    val_rows: NDArray[np.int64]

    def rows(self, split: str) -> NDArray[np.int64]:
        return self.val_rows if split == "val" else self.train_rows

    @cached_property
    def info(self) -> DatasetInfo:
        known = self.images.info
        rows = f"{known.digest} {self.train_rows.tolist()} {self.val_rows.tolist()}"
        digest = hashlib.sha256(rows.encode()).hexdigest()
        counts, sizes = {**known.counts}, {**known.labels_per_image}
        for split in ("train", "val"):
            labels = self.images.shards.labels[self.rows(split)]
            names, count = known.class_names, self.images.target.count
            per_class, sizes[split] = count(labels, len(names))
            counts[split] = dict(zip(names, per_class, strict=True))
        changes = {"counts": counts, "labels_per_image": sizes, "digest": digest, "files": {}}
        changed = known.model_copy(update=changes)
        return self.images.input.fitted(changed, self.images.shards, self.train_rows)

    def open(self, split: Literal["train", "val"], view: EvaluationView | None) -> Shards:
        parts, rows = self.images.parts(view), self.rows(split)
        return self.images.input.opened(parts, rows, self.images.info, self.info)
