"""Preparation of images with one class each."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.stratify import fold_sizes, stratify_groups
from darkroom.preparation.unsplit import Ints, Unsplit, has_groups

balance = "train.class_weights: balanced or train.sampling: balanced"


def lacking(names: str, place: str) -> str:
    return f"no file of the class {names} in {place} is a readable image; add some, or remove the class"


def stored(sets: LabelSets, index: int) -> int:
    return index


def keys(sets: LabelSets) -> NDArray[np.int64]:
    return np.arange(len(sets.names))


def cut(images: Unsplit, pool: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Cut parts; one stays empty if it or the rest would have fewer images than there are classes."""
    rest = len(sizes)
    labels, groups = images.labels[pool], images.groups[pool]
    if has_groups(groups):
        return stratify_groups(labels, groups, [*sizes, max(len(pool) - sum(sizes), 0)], seed)
    parts = np.full(len(labels), rest)
    for part, size in enumerate(sizes):
        pool = np.flatnonzero(parts == rest)
        counts = np.bincount(labels[pool])
        pool = pool[counts[labels[pool]] > 1]  # scikit-learn rejects classes of one image
        num_classes = np.count_nonzero(counts > 1)
        if 0 < num_classes <= size <= len(pool) - num_classes:
            _, drawn = train_test_split(pool, test_size=size, random_state=seed, stratify=labels[pool])
            parts[drawn] = part
    return parts


def fold(images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    number, num_folds = fold
    labels, groups = images.labels, images.groups
    if has_groups(groups):
        return stratify_groups(labels, groups, fold_sizes(len(labels), num_folds), seed) == number - 1
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(labels, labels)
    _, drawn = next(islice(folds, number - 1, None))
    in_fold = np.zeros(len(labels), dtype=np.bool_)
    in_fold[drawn] = True
    return in_fold


def counts(info: DatasetInfo) -> dict[str, dict[str, int]]:
    return {}


def counts_by_label(info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
    return {}


def average(info: DatasetInfo) -> str:
    return ""


def labels_per_image(info: DatasetInfo) -> dict[int, list[int]]:
    return {}
