"""Finds series of numbered files that look alike, such as frames of a video.

Neighbours in a series are nearly the same image. If a split separates them, the test measures memory.
Whether neighbours look alike is measured against chance: their perceptual hashes are compared with those
of random pairs of the same classes.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.grouping import GroupPattern

CHANCE = 0.05
"""Fraction of random pairs that count as alike."""
LEAST_SHARE = 1 / 3
"""Minimum fraction of alike neighbours in a series. Measured: 0.60 to 0.72 in CamVid, 0.05 in CIFAR-10,
and 0.18 in scikit-learn's digits, which are sorted by writer."""
LEAST_PAIRS = 20
"""Minimum number of neighbours to judge by."""
LEAST_LEAK = 0.02
"""Minimum fraction of test images with an alike neighbour in train that is reported."""
LEAST_GROUPS = 10
"""Minimum number of groups per class that can be split."""

_SEED = 0
_DRAWS = 4  # random pairs per pair of neighbours
_MAX_NEIGHBOURS = 50_000  # measured pairs; if there are more, a regular sample
_FOLDER, _NUMBER = r"(?P<folder>(?:.*/)?)", r"(?P<number>[0-9]{1,18})"
_NUMBERED = rf"^{_FOLDER}(?P<head>[^/]*?){_NUMBER}(?P<tail>[^0-9/.]*)(?:\.[^/.]*)?$"


@dataclass(frozen=True)
class Series:
    """Consecutively numbered files that look alike."""

    pattern: str
    """A value of ``data.group_pattern`` that keeps the series together."""
    num_groups: int
    """Number of groups that the pattern forms from all images."""
    num_neighbours: int
    share_alike: float
    """Fraction of alike neighbours; ``CHANCE`` is the expected value."""
    example: tuple[int, int]
    """Indices of two alike neighbours, the first in test and the second in train."""
    num_mates: int
    """Number of test images with a training image in the same group."""
    num_test: int


def find_series(
    paths: pa.Array,
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    hashes: NDArray[np.uint8],
    has_split_folders: bool,
) -> Series | None:
    """Return the series that the splits separate; None if there are none.

    Args:
        paths: text ``(n,)``, relative to the collection.
        labels: index of the label, ``(n,)``.
        splits: index in ``SPLITS``, -1 for excluded images: ``(n,)``.
        hashes: uint8 ``(n, HASH_BYTES)``, perceptual hashes, compared by distance.
        has_split_folders: whether the first folder of a path is its split.
    """
    numbered = pc.extract_regex(paths, _NUMBERED)
    is_numbered = numbered.is_valid().to_numpy(zero_copy_only=False) & (splits >= 0)
    indices = np.flatnonzero(is_numbered)
    if len(indices) <= LEAST_PAIRS:
        return None
    numbered = numbered.take(pa.array(indices))
    folders, heads, numbers, tails = (
        pc.struct_field(numbered, name) for name in ("folder", "head", "number", "tail")
    )
    if has_split_folders:
        folders = pc.replace_substring_regex(folders, "^[^/]*/", "")
    number = numbers.cast(pa.int64()).to_numpy()
    names = pc.binary_join_element_wise(heads, tails, "\0")
    for across_folders in (True, False):
        keys = names if across_folders else pc.binary_join_element_wise(folders, names, "/")
        first, second = _neighbours(_codes(keys), number, _codes(folders), across_folders)
        first, second = indices[first], indices[second]
        if len(first) < LEAST_PAIRS:
            continue
        is_alike = _are_alike(first, second, labels, hashes)
        if is_alike.mean() < LEAST_SHARE:
            continue
        separated = is_alike & _separate(splits[first], splits[second])
        num_test = int((splits == SPLITS.index("test")).sum())
        least = max(LEAST_LEAK * num_test, 2)
        if separated.sum() < least:
            return None
        pair = (int(first[separated][0]), int(second[separated][0]))
        if splits[pair[0]] == SPLITS.index("train"):
            pair = pair[::-1]
        pattern, groups = _choose_pattern(paths, labels, splits, has_split_folders, across_folders)
        mates = count_mates(groups, splits)
        if mates < least:
            return None  # only the ends of complete blocks are adjacent
        share = float(is_alike.mean())
        return Series(pattern, int(groups.max()) + 1, len(first), share, pair, mates, num_test)
    return None


def count_mates(groups: NDArray[np.int64], splits: NDArray[np.int8]) -> int:
    """Return the number of test images with an image of their group in train.

    Args:
        groups: number of the group of each image; -1: the image is alone in its group.
    """
    in_train = np.unique(groups[(splits == SPLITS.index("train")) & (groups >= 0)])
    return int(np.isin(groups[splits == SPLITS.index("test")], in_train).sum())


def _codes(texts: pa.Array) -> NDArray[np.int64]:
    return texts.dictionary_encode().indices.to_numpy().astype(np.int64)


def _neighbours(
    keys: NDArray[np.int64],
    numbers: NDArray[np.int64],
    folders: NDArray[np.int64],
    across_folders: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of each file and the file with the next number in its series.

    Args:
        across_folders: return only pairs from two folders.
    """
    order = np.lexsort((numbers, keys))
    first, second = order[:-1], order[1:]
    follows = (keys[first] == keys[second]) & (numbers[first] != numbers[second])
    if across_folders:
        follows &= folders[first] != folders[second]
    pairs = np.flatnonzero(follows)
    pairs = pairs[:: -(-len(pairs) // _MAX_NEIGHBOURS) or 1]
    return first[pairs], second[pairs]


def _are_alike(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    labels: NDArray[np.int64],
    hashes: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """Return which pairs are closer than nearly all random pairs of their labels: bool ``(m,)``."""
    random = np.random.default_rng(_SEED)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[second], side="left")
    stops = np.searchsorted(labels[order], labels[second], side="right")
    at_random = []
    for _ in range(_DRAWS):
        drawn = order[random.integers(starts, stops)]
        is_other = drawn != first
        at_random.append(_distance(hashes[first[is_other]], hashes[drawn[is_other]]))
    return _distance(hashes[first], hashes[second]) < np.quantile(np.concatenate(at_random), CHANCE)


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return squared Euclidean distances as integers, which are the same on every machine."""
    return np.square(one.astype(np.int64) - other).sum(axis=1)


def _separate(one: NDArray[np.int8], other: NDArray[np.int8]) -> NDArray[np.bool_]:
    train, test = SPLITS.index("train"), SPLITS.index("test")
    return ((one == train) & (other == test)) | ((one == test) & (other == train))


def _choose_pattern(
    paths: pa.Array,
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    has_split_folders: bool,
    across_folders: bool,
) -> tuple[str, NDArray[np.int64]]:
    """Return the coarsest pattern that gives each label enough groups, and the group of each image.

    The pattern drops the whole number, or only its last digits if a series covers a whole label.
    """
    has_digit = pc.match_substring_regex(paths, r"\.[^/.]*[0-9][^/.]*$")  # in a suffix such as .jp2
    suffix = r"\.\w+$" if pc.any(has_digit).as_py() else "$"
    start = "^[^/]*/(.*?)" if has_split_folders else "^(.*?)"
    start = "([^/]*?)" if across_folders else start
    used = np.flatnonzero(splits >= 0)
    pattern, groups = "", np.empty(0, np.int64)
    for digits in ("+", "{4}", "{3}", "{2}", ""):
        pattern = rf"{start}\d{digits}[^\d/]*{suffix}"
        found = GroupPattern(pattern).groups(paths)
        groups = pc.fill_null(found.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
        pairs = np.unique(np.stack([labels[used], groups[used]], axis=1), axis=0)
        if np.bincount(pairs[:, 0])[np.unique(labels[used])].min() >= LEAST_GROUPS:
            break
    return pattern, groups
