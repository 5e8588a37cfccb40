"""Draws the splits: stratified by class, or stable by content."""

import numpy as np
from numpy.typing import NDArray

from darkroom.preparation.targets.interface import prepared_target
from darkroom.preparation.unsplit import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VAL,
    SplitRule,
    Splits,
    Unsplit,
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
    target = prepared_target(images.target)
    splits = np.maximum(last_of_group(images.groups, images.given), TRAIN)
    pool = np.flatnonzero(splits == TRAIN)
    num_images = len(splits) if TEST in cut else len(pool)
    sizes = {TEST: round(rule.test_fraction * num_images), VAL: round(rule.val_fraction * num_images)}
    if rule.fold is not None:
        in_fold = target.fold(images, rule.fold, rule.seed)
        splits[in_fold] = TEST
        pool, cut = np.flatnonzero(~in_fold), (VAL,)
    parts = target.cut(images, pool, [sizes[split] for split in cut], rule.seed)
    splits[pool] = np.array([*cut, TRAIN])[parts]
    return splits
