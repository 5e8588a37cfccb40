"""Refuses images that cannot be split as asked, and suggests what would work."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from darkroom.collection.entries import SPLITS
from darkroom.errors import UserError, listed
from darkroom.preparation.draw import draw_splits
from darkroom.preparation.unsplit import (
    NOT_GIVEN,
    TEST,
    TRAIN,
    VAL,
    Ints,
    SplitError,
    SplitRule,
    Splits,
    Unsplit,
    has_groups,
    last_of_group,
)

MAX_NAMES = 20
"""Maximum number of classes in a message."""


def refuse_leaks(images: Unsplit) -> None:
    """Refuse groups with images in different given splits."""
    is_given = images.given != NOT_GIVEN
    leaks = is_given & (images.given != last_of_group(images.groups, images.given))
    leaking = np.unique(images.groups[leaks])
    if len(leaking):
        raise SplitError(
            f"groups with {images.words.several} in different given splits: {len(leaking):,}; give all"
            f" {images.words.several} of a group the same split, or none",
            np.flatnonzero(np.isin(images.groups, leaking) & is_given),
        )


def refuse_unknown_classes(images: Unsplit) -> None:
    """Refuse classes that occur only in images given as val or test."""
    members, labels = images.memberships()
    given = images.given[members]
    known = np.unique(labels[given <= TRAIN])
    for split in (VAL, TEST):
        unknown = np.setdiff1d(labels[given == split], known)
        if len(unknown):
            names = listed([images.class_names[label] for label in unknown.tolist()], MAX_NAMES)
            raise UserError(
                f"data.path: the given {SPLITS[split]} split has classes that train lacks: {names}"
            )


def refuse_incomplete(images: Unsplit) -> None:
    """Refuse images without a given split, and given splits without an image."""
    given, words = images.given, images.words
    without = np.flatnonzero(given == NOT_GIVEN)
    if len(without):
        raise SplitError(
            f"prepare.split: given, but {len(without):,} of {len(given):,} {words.several} have no"
            f" split; give one to each {words.one}, or set prepare.split: stratified",
            without,
        )
    missing = [split for split in range(len(SPLITS)) if not (given == split).any()]
    if missing:
        raise UserError(
            f"prepare.split: given, but no {words.one} has the split {_join_splits(missing, 'or')};"
            " add some, or set prepare.split: stratified, which cuts a missing val or test from train"
        )


def refuse_fold_of_given_splits(cut: tuple[int, ...], rule: SplitRule) -> None:
    """Refuse ``prepare.fold`` if val or test is given."""
    if rule.fold is not None and len(cut) < 2:
        raise UserError(
            f"prepare.fold: {_fold_name(rule)} cuts val and test, but the collection already gives"
            f" {_join_splits(_given_splits(cut))}; set prepare.fold: null, or remove the given splits"
        )


def refuse_small_classes(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> None:
    """Refuse classes with fewer groups than splits, for which no fraction can work."""
    pool, num_groups = _count_pool(images)
    needed = len(cut) + 1
    if rule.fold is not None:
        # one of two folds takes half of the class, and train and val need one image each of the rest
        needed = max(rule.fold[1], 4 if rule.fold[1] == 2 else 3)
    small = np.flatnonzero(num_groups < needed)
    if len(small) == 0:
        return
    listed = [
        f"{images.class_names[label]} has {pool[label]:,}"
        + (f" in {num_groups[label]:,} groups" if num_groups[label] < pool[label] else "")
        for label in small.tolist()
    ]
    given = _given_splits(cut)
    beside = f" beside those given as {_join_splits(given)}" if given else ""
    sides = f"{_fold_name(rule)} of prepare.fold" if rule.fold else _join_splits([*cut, TRAIN])
    raise UserError(
        f"too few {images.words.several}{beside} for {sides}: {_first(listed)}; a class needs at least"
        f" {needed}"
        + (" groups" if has_groups(images.groups) else "")
        + f"; add {images.words.several}, or merge or remove the class"
        + (", or lower the number of folds" if rule.fold else "")
    )


def _count_pool(images: Unsplit) -> tuple[Ints, Ints]:
    """Count the images and the groups of each class that are not given as val or test."""
    num_classes = len(images.class_names)
    members, labels = images.memberships()
    in_pool = (last_of_group(images.groups, images.given) <= TRAIN)[members]
    pairs = np.unique(images.groups[members[in_pool]] * num_classes + labels[in_pool])
    return (
        np.bincount(labels[in_pool], minlength=num_classes),
        np.bincount(pairs % num_classes, minlength=num_classes),
    )


def lacking_classes(images: Unsplit, splits: Splits, cut: tuple[int, ...]) -> dict[int, Ints]:
    """Return the classes without an image in train or in a split that was cut, by split."""
    members, labels = images.memberships()
    counts = {
        split: np.bincount(labels[splits[members] == split], minlength=len(images.class_names))
        for split in (TRAIN, VAL, TEST)
        if split == TRAIN or split in cut
    }
    return {split: np.flatnonzero(count == 0) for split, count in counts.items() if not count.all()}


def explain_lacking(images: Unsplit, splits: Splits, cut: tuple[int, ...], rule: SplitRule) -> str:
    """Return a message with the classes that splits lack, the cause and the remedies."""
    total = np.bincount(images.memberships()[1], minlength=len(images.class_names))
    lacking = "; ".join(
        f"{SPLITS[split]} without "
        + _first([f"{images.class_names[label]} ({total[label]:,} in all)" for label in labels.tolist()])
        for split, labels in lacking_classes(images, splits, cut).items()
    )
    asked = [f"prepare.{name} {value:g}" for name, value in _fractions(cut, rule).items()]
    if rule.fold is not None:
        asked.insert(0, f"prepare.fold {_fold_name(rule)}")
    cause = _join(asked) if asked else "the given splits"
    verb = "leaves" if len(asked) == 1 else "leave"
    advice = [f"add {images.words.several}", "merge or remove these classes"]
    works = _fractions_that_work(images, cut, rule)
    if works:
        settings = [f"prepare.{name}: {value:g}" for name, value in works.items()]
        advice.append(f"set {_join(settings)}, which works")
    if rule.method == "stable":
        advice.append(f"set prepare.split: stratified, which needs fewer {images.words.several}")
    return f"{cause} {verb} {lacking}; {', or '.join(advice)}"


def _fractions_that_work(images: Unsplit, cut: tuple[int, ...], rule: SplitRule) -> dict[str, float]:
    """Search for fractions close to the configured ones with which no class is missing.

    Splits are drawn with a growing minimum percentage of the pool for every split. The first minimum is
    half an image of the smallest class, which may be rounded up.

    Returns:
        The fractions to change, by name; empty if none were found.
    """
    asked = _fractions(cut, rule)
    _, num_groups = _count_pool(images)
    if not asked:
        return {}
    is_share_of_all = rule.method == "stratified" and TEST in cut
    in_pool = last_of_group(images.groups, images.given) <= TRAIN
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
        if changed and not lacking_classes(images, draw_splits(images, cut, other), cut):
            return changed
    return {}


def _fractions(cut: tuple[int, ...], rule: SplitRule) -> dict[str, float]:
    """Return the configured fractions that are used, by name."""
    fractions = {}
    if VAL in cut:
        fractions["val_fraction"] = rule.val_fraction
    if TEST in cut and rule.fold is None:
        fractions["test_fraction"] = rule.test_fraction
    return fractions


def _given_splits(cut: tuple[int, ...]) -> list[int]:
    return [split for split in (VAL, TEST) if split not in cut]


def _fold_name(rule: SplitRule) -> str:
    return "/".join(map(str, rule.fold or ()))


def _join_splits(splits: Sequence[int], word: str = "and") -> str:
    return _join([SPLITS[split] for split in sorted(splits)], word)


def _join(parts: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _first(parts: Sequence[str], most: int = 5) -> str:
    more = [f"and {len(parts) - most:,} more"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])
