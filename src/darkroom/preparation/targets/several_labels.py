"""Preparation of images with any number of labels."""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.stratify import fold_sizes, stratify_iteratively
from darkroom.preparation.targets import one_class
from darkroom.preparation.unsplit import Ints, Unsplit

balance = "train.class_weights: balanced"


def lacking(names: str, place: str) -> str:
    return one_class.lacking(names, place)


def stored(sets: LabelSets, index: int) -> Sequence[int]:
    return sets.classes(index)


def keys(sets: LabelSets) -> NDArray[np.int64]:
    return sets.keys()


def cut(images: Unsplit, pool: Ints, sizes: Sequence[int], seed: int) -> Ints:
    labels, groups = images.members[images.labels[pool]], images.groups[pool]
    return stratify_iteratively(labels, groups, [*sizes, max(len(pool) - sum(sizes), 0)], seed)


def fold(images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    number, num_folds = fold
    labels, sizes = images.members[images.labels], fold_sizes(len(images.labels), num_folds)
    return stratify_iteratively(labels, images.groups, sizes, seed) == number - 1


def counts(info: DatasetInfo) -> dict[str, dict[str, int]]:
    """Return the number of images with 0, 1, 2, ... labels."""
    by_number = map(sum, zip_longest(*info.labels_per_image.values(), fillvalue=0))
    return {"num_images_by_labels": {str(number): images for number, images in enumerate(by_number)}}


def counts_by_label(info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
    """Return the number of images of each label by split."""
    return {
        "num_images_of_label": {
            name: {split: info.counts[split][name] for split in SPLITS} for name in info.class_names
        }
    }


def average(info: DatasetInfo) -> str:
    num_labels = sum(sum(of_split.values()) for of_split in info.counts.values())
    return f", {num_labels / sum(info.num_images(split) for split in SPLITS):.2f} per image,"


def labels_per_image(info: DatasetInfo) -> dict[int, list[int]]:
    by_number = zip_longest(*(info.labels_per_image[split] for split in SPLITS), fillvalue=0)
    return {number: list(of_splits) for number, of_splits in enumerate(by_number)}
