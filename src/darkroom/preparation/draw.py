"""Draws the splits: stratified by class, or stable by content."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from darkroom.preparation.stratify import stratify_groups, stratify_iteratively
from darkroom.preparation.unsplit import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VAL,
    Ints,
    SplitRule,
    Splits,
    Unsplit,
    has_groups,
    last_of_group,
)


def draw_splits(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    """Return the split of each image.

    Args:
        cut: the splits that are not given.
    """
    draw = _draw_stable if rule.method == "stable" else _draw_stratified
    return draw(images, cut, rule)


def _draw_stable(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    """Split [0, 1) into test, val and train; an image's hash of (seed, key) decides."""
    place = _uniform(images.keys, rule.seed)
    test_end = rule.test_fraction if TEST in cut else 0.0
    val_end = test_end + (rule.val_fraction if VAL in cut else 0.0)
    if rule.fold is not None:
        fold, num_folds = rule.fold
        # rotated so that this fold begins at 0, in units of a fold: then the edges meet exactly
        place = place * num_folds - (fold - 1)
        place[place < 0] += num_folds
        test_end, val_end = 1.0, 1.0 + rule.val_fraction * num_folds
    splits = np.where(place < test_end, TEST, np.where(place < val_end, VAL, TRAIN)).astype(np.int8)
    splits = np.where(images.given > TRAIN, images.given, splits)
    splits[splits < last_of_group(images.groups, splits)] = LEFT_OUT
    return splits


def _uniform(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Hash (seed, key) to [0, 1) with the mixer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    words = keys ^ _mix(np.array([seed], dtype=np.uint64))
    return (_mix(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _draw_stratified(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    splits = np.maximum(last_of_group(images.groups, images.given), TRAIN)
    pool = np.flatnonzero(splits == TRAIN)
    num_images = len(splits) if TEST in cut else len(pool)
    sizes = {TEST: round(rule.test_fraction * num_images), VAL: round(rule.val_fraction * num_images)}
    if rule.fold is not None:
        in_fold = _draw_fold(images, rule.fold, rule.seed)
        splits[in_fold] = TEST
        pool, cut = np.flatnonzero(~in_fold), (VAL,)
    parts = _cut(images, pool, [sizes[split] for split in cut], rule.seed)
    splits[pool] = np.array([*cut, TRAIN])[parts]
    return splits


def _cut(images: Unsplit, pool: Ints, sizes: Sequence[int], seed: int) -> Ints:
    """Cut stratified parts of the given sizes from a pool.

    Returns:
        ``(num_in_pool,)``: the part of each image, ``len(sizes)`` for the rest. A part stays empty if it
        or the rest would have fewer images than there are classes.
    """
    rest = len(sizes)
    labels, groups = images.labels[pool], images.groups[pool]
    all_sizes = [*sizes, max(len(pool) - sum(sizes), 0)]
    if images.members is not None:
        return stratify_iteratively(images.members[labels], groups, all_sizes, seed)
    if has_groups(groups):
        return stratify_groups(labels, groups, all_sizes, seed)
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


def _draw_fold(images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    """Return which images are in one fold; every image is in exactly one of the folds."""
    number, num_folds = fold
    labels, groups = images.labels, images.groups
    sizes = [(len(labels) + later) // num_folds for later in range(num_folds)]
    if images.members is not None:
        return stratify_iteratively(images.members[labels], groups, sizes, seed) == number - 1
    if has_groups(groups):
        return stratify_groups(labels, groups, sizes, seed) == number - 1
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(labels, labels)
    _, drawn = next(islice(folds, number - 1, None))
    in_fold = np.zeros(len(labels), dtype=np.bool_)
    in_fold[drawn] = True
    return in_fold
