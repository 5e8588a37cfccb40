"""Which images are for train, val and test.

Splits that the collection gives are kept; what is missing of val and test is cut from the rest, the
*pool*. Images of one group never lie in two splits.

- ``given`` cuts nothing.
- ``stratified`` draws with scikit-learn, every class in the same shares. Groups of several images,
  which scikit-learn cannot place in given shares, are placed by ``apportion.share_out``, and images
  with several labels by ``iterative.stratify_iteratively``.
- ``stable`` decides for each image by its own content, so that new images never move an old one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.model_selection import StratifiedKFold, train_test_split

from darkroom.collection.entries import SPLITS
from darkroom.errors import UserError
from darkroom.preparation.apportion import share_out
from darkroom.preparation.iterative import stratify_iteratively

TRAIN, VAL, TEST = range(len(SPLITS))
NOT_GIVEN = LEFT_OUT = -1

Ints = NDArray[np.int64]
Splits = NDArray[np.int8]
"""``(num_images,)``: index into ``SPLITS``, or -1."""


@dataclass(frozen=True)
class SplitRule:
    """How to split; the fields are those of the section ``prepare``."""

    method: Literal["stratified", "stable", "given"]
    val_fraction: float
    test_fraction: float
    fold: tuple[int, int] | None
    """(2, 5): the second of five folds is the test split, and ``test_fraction`` is unused."""
    seed: int


@dataclass(frozen=True)
class Unsplit:
    """The images to be split, in the order of their paths; arrays are ``(num_images,)``."""

    class_names: Sequence[str]
    """Sorted."""
    labels: Ints
    """Index into ``class_names``, or into the rows of ``members``."""
    groups: Ints
    """Any numbers; images with the same one are a group. Mostly each image has its own."""
    given: Splits
    """The split that the collection gives, else ``NOT_GIVEN``."""
    keys: NDArray[np.uint64]
    """A hash of the name of an image's group, else of its pixels. Only for ``stable``."""
    members: csr_array | None = None
    """Where an image may have several labels, or none: the classes of each set of labels, as
    ``LabelSets.members``. Then it counts in each of its classes."""

    def memberships(self) -> tuple[Ints, Ints]:
        """Returns pairs of an image and a class that it is of: int64 ``(num_pairs,)`` each."""
        images = np.arange(len(self.labels))
        if self.members is None:
            return images, self.labels
        of_images = self.members[self.labels]
        return np.repeat(images, np.diff(of_images.indptr)), of_images.indices.astype(np.int64)


class SplitError(UserError):
    """A mistake in single images. The message counts them; who knows their names adds these."""

    def __init__(self, message: str, images: Ints) -> None:
        """Takes the images at fault, as indices: int64 ``(num_at_fault,)``."""
        super().__init__(message)
        self.images = images


def assign_splits(images: Unsplit, rule: SplitRule) -> Splits:
    """Gives each image a split.

    ``test_fraction`` is a share of all images; so is ``val_fraction``, but of the pool where test is
    given. With ``stable`` both are shares of the pool, because a share of all would depend on the
    other images.

    Returns:
        One split an image. Only ``stable`` leaves images out (``LEFT_OUT``): where a group falls into
        several splits, the images in test stay, else those in val.

    Raises:
        SplitError: a group has images in different given splits; or ``given``, and some have none.
        UserError: a class would be missing in train, or in a split that is not given.
    """
    images = replace(images, groups=_number_by_appearance(images.groups))
    _refuse_leaks(images)
    if rule.method == "given":
        _refuse_incomplete(images.given)
        cut: tuple[int, ...] = ()
        splits = images.given
    else:
        cut = tuple(split for split in (TEST, VAL) if not (images.given == split).any())
        if rule.fold is not None and len(cut) < 2:
            raise UserError(
                f"prepare.fold: {_fold_name(rule)} cuts val and test, but {_names(_kept(cut))} is given"
                " with the images; set prepare.fold: null, or give no splits"
            )
        _refuse_small_classes(images, cut, rule)
        splits = _draw(images, cut, rule)
    if _lacking(images, splits, cut):
        raise UserError(_explain_lacking(images, splits, cut, rule))
    return splits


def _draw(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    draw = _draw_stable if rule.method == "stable" else _draw_stratified
    return draw(images, cut, rule)


def _draw_stable(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    """Splits by where the hash of (seed, key) falls in [0, 1): test first, then val, then train."""
    place = _uniform(images.keys, rule.seed)
    test_end = rule.test_fraction if TEST in cut else 0.0
    val_end = test_end + (rule.val_fraction if VAL in cut else 0.0)
    if rule.fold is not None:
        fold, num_folds = rule.fold
        # turned until this fold begins at 0, in steps of a fold: only so do the edges meet exactly
        place = place * num_folds - (fold - 1)
        place[place < 0] += num_folds
        test_end, val_end = 1.0, 1.0 + rule.val_fraction * num_folds
    splits = np.where(place < test_end, TEST, np.where(place < val_end, VAL, TRAIN)).astype(np.int8)
    splits = np.where(images.given > TRAIN, images.given, splits)
    splits[splits < _last_of_group(images.groups, splits)] = LEFT_OUT
    return splits


def _uniform(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Hashes (seed, key) to [0, 1), by the mixer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    words = keys ^ _mix(np.array([seed], dtype=np.uint64))
    return (_mix(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _draw_stratified(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> Splits:
    splits = np.maximum(_last_of_group(images.groups, images.given), TRAIN)
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
    """Cuts parts of so many images from a pool, stratified.

    Returns:
        ``(num_in_pool,)``: the part of each image, ``len(sizes)`` for what remains. A part stays empty
        where it, or what it leaves, has fewer images than there are classes.
    """
    rest = len(sizes)
    labels, groups = images.labels[pool], images.groups[pool]
    all_sizes = [*sizes, max(len(pool) - sum(sizes), 0)]
    if images.members is not None:
        return stratify_iteratively(images.members[labels], groups, all_sizes, seed)
    if _has_groups(groups):
        return share_out(labels, groups, all_sizes, seed)
    parts = np.full(len(labels), rest)
    for part, size in enumerate(sizes):
        pool = np.flatnonzero(parts == rest)
        counts = np.bincount(labels[pool])
        pool = pool[counts[labels[pool]] > 1]  # scikit-learn refuses classes of one image
        num_classes = np.count_nonzero(counts > 1)
        if 0 < num_classes <= size <= len(pool) - num_classes:
            _, drawn = train_test_split(pool, test_size=size, random_state=seed, stratify=labels[pool])
            parts[drawn] = part
    return parts


def _draw_fold(images: Unsplit, fold: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    """Returns which images are in one fold; all folds together are all images."""
    number, num_folds = fold
    labels, groups = images.labels, images.groups
    sizes = [(len(labels) + later) // num_folds for later in range(num_folds)]
    if images.members is not None:
        return stratify_iteratively(images.members[labels], groups, sizes, seed) == number - 1
    if _has_groups(groups):
        return share_out(labels, groups, sizes, seed) == number - 1
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(labels, labels)
    _, drawn = next(islice(folds, number - 1, None))
    in_fold = np.zeros(len(labels), dtype=np.bool_)
    in_fold[drawn] = True
    return in_fold


def _number_by_appearance(groups: Ints) -> Ints:
    """Numbers groups 0, 1, ... as they come, so that nothing depends on the numbers given."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]


def _has_groups(groups: Ints) -> bool:
    return bool(np.bincount(groups, minlength=1).max() > 1)


def _last_of_group(groups: Ints, splits: Splits) -> Splits:
    """Returns, for each image, the split of its group that comes last in ``SPLITS``."""
    last = np.full(len(groups), NOT_GIVEN, dtype=np.int8)
    np.maximum.at(last, groups, splits)
    return last[groups]


def _refuse_leaks(images: Unsplit) -> None:
    is_given = images.given != NOT_GIVEN
    leaks = is_given & (images.given != _last_of_group(images.groups, images.given))
    leaking = np.unique(images.groups[leaks])
    if len(leaking):
        raise SplitError(
            f"groups with images in different given splits: {len(leaking):,}; give all images of a group"
            " the same split, or none",
            np.flatnonzero(np.isin(images.groups, leaking) & is_given),
        )


def _refuse_incomplete(given: Splits) -> None:
    without = np.flatnonzero(given == NOT_GIVEN)
    if len(without):
        raise SplitError(
            f"prepare.split: given, but {len(without):,} of {len(given):,} images have no split; give"
            " each one, or set prepare.split: stratified",
            without,
        )
    missing = [split for split in range(len(SPLITS)) if not (given == split).any()]
    if missing:
        raise UserError(
            f"prepare.split: given, but no image is given as {_names(missing, 'or')}; give some, or set"
            " prepare.split: stratified, which cuts what is missing of val and test from train"
        )


def _refuse_small_classes(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> None:
    """Refuses classes with fewer groups than splits, for which no fraction would work."""
    pool, num_groups = _count_pool(images)
    needed = len(cut) + 1
    if rule.fold is not None:
        # a fold of two takes half of the class, of which train and val must get one each
        needed = max(rule.fold[1], 4 if rule.fold[1] == 2 else 3)
    small = np.flatnonzero(num_groups < needed)
    if len(small) == 0:
        return
    listed = [
        f"{images.class_names[label]} has {pool[label]:,}"
        + (f" in {num_groups[label]:,} groups" if num_groups[label] < pool[label] else "")
        for label in small.tolist()
    ]
    given = _kept(cut)
    beside = f" beside those given as {_names(given)}" if given else ""
    sides = f"{_fold_name(rule)} of prepare.fold" if rule.fold else _names([*cut, TRAIN])
    raise UserError(
        f"too few images{beside} for {sides}: {_first(listed)}; a class needs at least {needed}"
        + (" groups" if _has_groups(images.groups) else "")
        + "; add images, or merge or remove the class"
        + (", or lower the number of folds" if rule.fold else "")
    )


def _count_pool(images: Unsplit) -> tuple[Ints, Ints]:
    """Counts, for each class, images and groups that are not given as val or test."""
    num_classes = len(images.class_names)
    members, labels = images.memberships()
    in_pool = (_last_of_group(images.groups, images.given) <= TRAIN)[members]
    pairs = np.unique(images.groups[members[in_pool]] * num_classes + labels[in_pool])
    return (
        np.bincount(labels[in_pool], minlength=num_classes),
        np.bincount(pairs % num_classes, minlength=num_classes),
    )


def _lacking(images: Unsplit, splits: Splits, cut: tuple[int, ...]) -> dict[int, Ints]:
    """Returns the classes that train and the splits that were cut lack: split -> labels."""
    members, labels = images.memberships()
    counts = {
        split: np.bincount(labels[splits[members] == split], minlength=len(images.class_names))
        for split in (TRAIN, VAL, TEST)
        if split == TRAIN or split in cut
    }
    return {split: np.flatnonzero(count == 0) for split, count in counts.items() if not count.all()}


def _explain_lacking(images: Unsplit, splits: Splits, cut: tuple[int, ...], rule: SplitRule) -> str:
    total = np.bincount(images.memberships()[1], minlength=len(images.class_names))
    lacking = "; ".join(
        f"{SPLITS[split]} without "
        + _first([f"{images.class_names[label]} ({total[label]:,} in all)" for label in labels.tolist()])
        for split, labels in _lacking(images, splits, cut).items()
    )
    asked = [f"prepare.{name} {value:g}" for name, value in _fractions(cut, rule).items()]
    if rule.fold is not None:
        asked.insert(0, f"prepare.fold {_fold_name(rule)}")
    cause = _join(asked) if asked else "the given splits"
    verb = "leaves" if len(asked) == 1 else "leave"
    advice = ["add images", "merge or remove these classes"]
    works = _fractions_that_work(images, cut, rule)
    if works:
        settings = [f"prepare.{name}: {value:g}" for name, value in works.items()]
        advice.append(f"set {_join(settings)}, which works")
    if rule.method == "stable":
        advice.append("set prepare.split: stratified, which needs fewer images")
    return f"{cause} {verb} {lacking}; {', or '.join(advice)}"


def _fractions_that_work(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> dict[str, float]:
    """Searches, by drawing, for fractions near the asked ones with which no class is missing.

    Every split is given at least a growing percentage of the pool, at first enough for half an image
    of the smallest class, which may be rounded up.

    Returns:
        The fractions to change; none if nothing was found.
    """
    asked = _fractions(cut, rule)
    _, num_groups = _count_pool(images)
    if not asked:
        return {}
    is_share_of_all = rule.method == "stratified" and TEST in cut
    in_pool = _last_of_group(images.groups, images.given) <= TRAIN
    unit = np.count_nonzero(in_pool) / len(in_pool) if is_share_of_all else 1.0
    fold = 1 / rule.fold[1] if rule.fold is not None else 0.0
    for percent in range(math.ceil(50 / num_groups.min()), 35):
        least = percent / 100
        most = 1 - least - fold
        tried = {name: max(value, least * unit) for name, value in asked.items()}
        if math.fsum(tried.values()) > most * unit:
            tried = {name: min(value, most * unit / len(tried)) for name, value in tried.items()}
        changed = {name: round(tried[name], 3) for name in tried if tried[name] != asked[name]}
        other = replace(
            rule,
            val_fraction=changed.get("val_fraction", rule.val_fraction),
            test_fraction=changed.get("test_fraction", rule.test_fraction),
        )
        if changed and not _lacking(images, _draw(images, cut, other), cut):
            return changed
    return {}


def _fractions(cut: tuple[int, ...], rule: SplitRule) -> dict[str, float]:
    """Returns the fractions that are used."""
    fractions = {}
    if VAL in cut:
        fractions["val_fraction"] = rule.val_fraction
    if TEST in cut and rule.fold is None:
        fractions["test_fraction"] = rule.test_fraction
    return fractions


def _kept(cut: tuple[int, ...]) -> list[int]:
    return [split for split in (VAL, TEST) if split not in cut]


def _fold_name(rule: SplitRule) -> str:
    return "/".join(map(str, rule.fold or ()))


def _names(splits: Sequence[int], word: str = "and") -> str:
    return _join([SPLITS[split] for split in sorted(splits)], word)


def _join(parts: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _first(parts: Sequence[str], most: int = 5) -> str:
    more = [f"and {len(parts) - most:,} more"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])
