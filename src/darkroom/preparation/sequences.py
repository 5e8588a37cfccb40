"""Finds series of numbered files that look alike one after the other, as frames of a video do.

Neighbours in such a series are nearly one image, so that a split which parts them tests what was learnt
by heart. Whether files look alike is measured against chance: the perceptual hashes of neighbours are
compared with those of pairs drawn from the same classes.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.grouping import GroupPattern

CHANCE = 0.05
"""Share of pairs drawn by chance that are nearer than what counts as alike."""
LEAST_SHARE = 1 / 3
"""Share of neighbours that are alike in frames: measured 0.60 to 0.72 in CamVid, 0.05 in CIFAR-10, and
0.18 in scikit-learn's digits, whose numbers follow the writers."""
LEAST_PAIRS = 20
"""Neighbours needed to tell."""
LEAST_LEAK = 0.02
"""Share of the test images with an alike neighbour in train that is worth a word."""
LEAST_GROUPS = 10
"""Groups of a class that leave something to split."""

_SEED = 0
_DRAWS = 4  # pairs by chance for each pair of neighbours
_MAX_NEIGHBOURS = 50_000  # pairs that are measured; of more, a regular sample
_FOLDER, _NUMBER = r"(?P<folder>(?:.*/)?)", r"(?P<number>[0-9]{1,18})"
_NUMBERED = rf"^{_FOLDER}(?P<head>[^/]*?){_NUMBER}(?P<tail>[^0-9/.]*)(?:\.[^/.]*)?$"


@dataclass(frozen=True)
class Series:
    """Files that follow one another by number and look alike."""

    pattern: str
    """For ``data.group_pattern``, so that they are not split."""
    num_groups: int
    """Groups that the pattern makes of all images."""
    num_neighbours: int
    share_alike: float
    """Of the neighbours; ``CHANCE`` is what chance would give."""
    example: tuple[int, int]
    """Two alike neighbours, the first in test and the second in train, as indices."""
    num_mates: int
    """Test images with a training image in the same group."""
    num_test: int


def find_series(
    paths: pa.Array,
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    hashes: NDArray[np.uint8],
    has_split_folders: bool,
) -> Series | None:
    """Returns the series that the splits part; None if there are none.

    Args:
        paths: text ``(n,)``, relative to the collection.
        labels: a number for each label, ``(n,)``.
        splits: index in ``SPLITS``, -1 for those that are left out: ``(n,)``.
        hashes: uint8 ``(n, HASH_BYTES)``, perceptual hashes; their distance says how unlike images are.
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
        parted = is_alike & _parts(splits[first], splits[second])
        num_test = int((splits == SPLITS.index("test")).sum())
        least = max(LEAST_LEAK * num_test, 2)
        if parted.sum() < least:
            return None
        pair = (int(first[parted][0]), int(second[parted][0]))
        if splits[pair[0]] == SPLITS.index("train"):
            pair = pair[::-1]
        pattern, groups = _choose_pattern(paths, labels, splits, has_split_folders, across_folders)
        mates = count_mates(groups, splits)
        if mates < least:
            return None  # only the ends of blocks that are kept whole touch
        share = float(is_alike.mean())
        return Series(pattern, int(groups.max()) + 1, len(first), share, pair, mates, num_test)
    return None


def count_mates(groups: NDArray[np.int64], splits: NDArray[np.int8]) -> int:
    """Counts the test images of whose group there is an image in train.

    Args:
        groups: number of the group of each image, -1 for those that are each a group of their own.
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
    """Pairs each file with the next number of its series.

    Args:
        across_folders: return only pairs that lie in two folders.
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
    """Tells which pairs are nearer than nearly all pairs drawn from their two labels: bool ``(m,)``."""
    random = np.random.default_rng(_SEED)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[second], side="left")
    stops = np.searchsorted(labels[order], labels[second], side="right")
    by_chance = []
    for _ in range(_DRAWS):
        drawn = order[random.integers(starts, stops)]
        is_other = drawn != first
        by_chance.append(_distance(hashes[first[is_other]], hashes[drawn[is_other]]))
    return _distance(hashes[first], hashes[second]) < np.quantile(np.concatenate(by_chance), CHANCE)


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns squared Euclidean distances, in integers, so that they are the same everywhere."""
    return np.square(one.astype(np.int64) - other).sum(axis=1)


def _parts(one: NDArray[np.int8], other: NDArray[np.int8]) -> NDArray[np.bool_]:
    train, test = SPLITS.index("train"), SPLITS.index("test")
    return ((one == train) & (other == test)) | ((one == test) & (other == train))


def _choose_pattern(
    paths: pa.Array,
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    has_split_folders: bool,
    across_folders: bool,
) -> tuple[str, NDArray[np.int64]]:
    """Returns the coarsest pattern that leaves each label some groups, and the group of each image.

    The whole number is dropped, or, where a series is all of a label, its last digits alone.
    """
    has_digit = pc.match_substring_regex(paths, r"\.[^/.]*[0-9][^/.]*$")  # in a suffix, as .jp2
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
