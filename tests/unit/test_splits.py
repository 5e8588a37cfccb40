"""Splits against tables by hand and scikit-learn; groups, folds, stability; what is refused."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from darkroom.collection.labels import make_label_sets
from darkroom.errors import UserError
from darkroom.preparation.splits import assign_splits
from darkroom.preparation.unsplit import (
    LEFT_OUT,
    NOT_GIVEN,
    TEST,
    TRAIN,
    VAL,
    SplitError,
    SplitRule,
    Splits,
    Unsplit,
)

RULE = SplitRule("stratified", val_fraction=0.15, test_fraction=0.2, fold=None, seed=0)
DIGITS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
quick = settings(deadline=None, derandomize=True, max_examples=60)


def make_images(
    groups: Sequence[int] | None = None, given: Sequence[int] | None = None, **counts: int
) -> Unsplit:
    """So many images of each class, class after class, each image a group unless ``groups`` says so."""
    names = sorted(counts)
    labels = np.repeat(np.arange(len(names)), [counts[name] for name in names])
    num_images = len(labels)
    return Unsplit(
        class_names=names,
        labels=labels,
        groups=np.arange(num_images) if groups is None else np.array(groups),
        given=np.full(num_images, NOT_GIVEN, np.int8) if given is None else np.array(given, np.int8),
        keys=np.random.default_rng(0).integers(0, 2**64, num_images, dtype=np.uint64),
        members=make_label_sets(names, names, None).members,
    )


def select(images: Unsplit, index: Any) -> Unsplit:
    arrays = ("labels", "groups", "given", "keys")
    return replace(images, **{name: getattr(images, name)[index] for name in arrays})


def table(images: Unsplit, splits: Splits) -> dict[str, tuple[int, ...]]:
    """class -> images in train, val and test."""
    return {
        name: tuple(
            int(np.sum((images.labels == label) & (splits == split))) for split in (TRAIN, VAL, TEST)
        )
        for label, name in enumerate(images.class_names)
    }


def splits_of_groups(groups: Sequence[int], splits: Splits) -> list[set[int]]:
    return [set(splits[np.array(groups) == group].tolist()) - {LEFT_OUT} for group in set(groups)]


@st.composite
def grouped_images(draw: st.DrawFn, mixed: bool) -> Unsplit:
    """Up to four classes, 30 to 200 single images of each, and groups of 2 to 6 images.

    A group is of one class, or, if ``mixed``, of any.
    """
    num_classes = draw(st.integers(1, 4))
    labels = np.repeat(np.arange(num_classes), draw(st.integers(30, 200)))
    groups = np.arange(len(labels))
    for size in draw(st.lists(st.integers(2, 6), max_size=30)):
        content = [draw(st.integers(0, num_classes - 1)) for _ in range(size if mixed else 1)]
        labels = np.append(labels, content * (1 if mixed else size))
        groups = np.append(groups, [len(labels)] * size)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    names = ["a", "b", "c", "d"][:num_classes]
    return Unsplit(
        class_names=names,
        labels=labels[order],
        groups=groups[order],
        given=np.full(len(labels), NOT_GIVEN, np.int8),
        keys=np.random.default_rng(len(labels)).integers(0, 2**64, len(labels), dtype=np.uint64),
        members=make_label_sets(names, names, None).members,
    )


# --- stratified, each image alone


@pytest.mark.parametrize(
    ("counts", "val_fraction", "test_fraction", "expected"),
    [
        ({"a": 20, "b": 40}, 0.15, 0.2, {"a": (13, 3, 4), "b": (26, 6, 8)}),
        ({"a": 10, "b": 10, "c": 80}, 0.1, 0.1, {"a": (8, 1, 1), "b": (8, 1, 1), "c": (64, 8, 8)}),
        ({"a": 4, "b": 4}, 0.25, 0.25, {"a": (2, 1, 1), "b": (2, 1, 1)}),
        ({"a": 100, "b": 300}, 0.4, 0.4, {"a": (20, 40, 40), "b": (60, 120, 120)}),
        ({"a": 10, "b": 20, "c": 30}, 0.1, 0.3, {"a": (6, 1, 3), "b": (12, 2, 6), "c": (18, 3, 9)}),
    ],
)
def test_every_class_is_shared_out_as_in_the_table_by_hand(
    counts: dict[str, int],
    val_fraction: float,
    test_fraction: float,
    expected: dict[str, tuple[int, ...]],
) -> None:
    images = make_images(**counts)
    rule = replace(RULE, val_fraction=val_fraction, test_fraction=test_fraction)
    assert table(images, assign_splits(images, rule)) == expected


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_draw_is_scikit_learns(seed: int) -> None:
    images = make_images(a=23, b=57, c=31)
    names = np.array(images.class_names)[images.labels]
    rest, test = train_test_split(
        list(range(111)), test_size=round(0.2 * 111), random_state=seed, stratify=names
    )
    rest = sorted(rest)
    _, val = train_test_split(rest, test_size=round(0.15 * 111), random_state=seed, stratify=names[rest])
    splits = assign_splits(images, replace(RULE, seed=seed))
    assert np.flatnonzero(splits == TEST).tolist() == sorted(test)
    assert np.flatnonzero(splits == VAL).tolist() == sorted(val)


def test_the_splits_of_the_digits_stay_what_they_were() -> None:
    images = make_images(**{str(digit): count for digit, count in enumerate(DIGITS)})
    digests = [
        hashlib.sha256(assign_splits(images, replace(RULE, seed=seed)).tobytes()).hexdigest()
        for seed in (0, 1)
    ]
    assert digests[0] == "1b4b473f1df0ca8c97e7f7a9ecb644e8573fa20f4e46c7e9bcfb45c8997bb69a"
    assert digests[1] != digests[0]


@quick
@for_all(st.lists(st.integers(20, 90), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_splits_are_complete_and_within_one_image_of_their_share(counts: list[int], seed: int) -> None:
    images = make_images(**dict(zip("abcdefgh", counts, strict=False)))
    splits = assign_splits(images, replace(RULE, seed=seed))
    assert splits.dtype == np.int8
    assert set(splits.tolist()) == {TRAIN, VAL, TEST}
    assert np.sum(splits == TEST) == round(0.2 * sum(counts))
    assert np.sum(splits == VAL) == round(0.15 * sum(counts))
    for (_, val, test), count in zip(table(images, splits).values(), counts, strict=True):
        assert abs(test - 0.2 * count) < 1 + 0.5 * count / sum(counts)
        assert abs(val - 0.15 * count) < 2


def test_the_seed_decides_and_nothing_else() -> None:
    images = make_images(a=40, b=40)
    drawn = [assign_splits(images, replace(RULE, seed=seed)) for seed in (0, 0, 1, 2)]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert len({splits.tobytes() for splits in drawn}) == 3
    assert len({str(table(images, splits)) for splits in drawn}) == 1


# --- splits that the collection gives


@pytest.mark.parametrize("pool", [TRAIN, NOT_GIVEN])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({TEST: 5, TRAIN: 20, VAL: 3}, (20, 3, 5)),
        ({TEST: 5, TRAIN: 20}, (15, 5, 5)),  # val: a quarter of the pool
        ({TRAIN: 20, VAL: 4}, (8, 4, 12)),  # test: half of all
        ({TRAIN: 20}, (5, 5, 10)),
    ],
    ids=["all given", "no val", "no test", "train only"],
)
def test_given_splits_are_kept_and_the_others_drawn_from_the_pool(
    given: dict[int, int], expected: tuple[int, ...], pool: int
) -> None:
    codes = [pool if split == TRAIN else split for split, count in given.items() for _ in range(count)]
    images = make_images(a=len(codes), b=len(codes), given=codes * 2)
    splits = assign_splits(images, replace(RULE, val_fraction=0.25, test_fraction=0.5))
    assert table(images, splits) == {"a": expected, "b": expected}
    fixed = images.given > TRAIN
    assert (splits[fixed] == images.given[fixed]).all()


def test_given_cuts_nothing() -> None:
    codes = [TRAIN, VAL, TEST, TEST] * 2
    images = make_images(a=4, b=4, given=codes)
    assert assign_splits(images, replace(RULE, method="given")).tolist() == codes


@pytest.mark.parametrize("pool", [TRAIN, NOT_GIVEN])
@pytest.mark.parametrize("group", [[0, 3], [19, 25]], ids=["one class", "two classes"])
def test_a_group_follows_its_given_member(group: list[int], pool: int) -> None:
    images = make_images(a=20, b=20, given=[pool] * 40)
    images.groups[group] = 99
    images.given[group] = [TEST, NOT_GIVEN]
    images.given[[1, 21]] = TEST
    splits = assign_splits(images, RULE)
    assert np.flatnonzero(splits == TEST).tolist() == sorted([*group, 1, 21])
    assert np.sum(splits == VAL) == round(0.15 * 36)  # of the pool


@pytest.mark.parametrize("method", ["stratified", "stable", "given"])
def test_a_group_in_different_given_splits_is_refused_with_its_images(method: Any) -> None:
    images = make_images(a=8, b=8, given=[TRAIN, TRAIN, TRAIN, TRAIN, VAL, VAL, TEST, TEST] * 2)
    images.groups[[2, 5, 9]] = 77  # train and val
    images.groups[[0, 1]] = 78  # both train
    with pytest.raises(SplitError) as refused:
        assign_splits(images, replace(RULE, method=method))
    assert refused.value.images.tolist() == [2, 5, 9]
    assert str(refused.value) == (
        "groups with images in different given splits: 1; give all images of a group the same split,"
        " or none"
    )


def test_given_needs_a_split_for_every_image_and_every_split() -> None:
    images = make_images(a=4, b=4, given=[TRAIN, VAL, TEST, NOT_GIVEN, TRAIN, NOT_GIVEN, TEST, VAL])
    with pytest.raises(SplitError, match="given, but 2 of 8 images have no") as refused:
        assign_splits(images, replace(RULE, method="given"))
    assert refused.value.images.tolist() == [3, 5]

    images = make_images(a=2, b=2, given=[TRAIN, TEST, TRAIN, TEST])
    with pytest.raises(UserError, match="given, but no image has the split val; add some, or"):
        assign_splits(images, replace(RULE, method="given"))


def test_given_splits_may_lack_classes_but_train_may_not() -> None:
    codes = [TRAIN, VAL, TEST, TRAIN, TRAIN, TRAIN]
    images = make_images(a=3, b=3, given=codes)
    for method in ("given", "stratified", "stable"):
        rule = replace(RULE, method=method)  # type: ignore[arg-type]
        assert assign_splits(images, rule).tolist() == codes

    images = make_images(a=3, b=3, given=[TRAIN, VAL, TEST, VAL, TEST, TEST])
    with pytest.raises(UserError) as refused:
        assign_splits(images, replace(RULE, method="given"))
    assert str(refused.value) == ("data.path: the given val split has classes that train lacks: b")


# --- groups


@pytest.mark.parametrize(
    ("images", "val_fraction", "expected"),
    [
        # shares of 14, 2 and 4 images
        (make_images(a=20, groups=[i // 2 for i in range(20)]), 0.1, {"a": (14, 2, 4)}),
        # ten patients with one image of each class
        (
            make_images(a=10, b=10, groups=[*range(10), *range(10)]),
            0.1,
            {"a": (7, 1, 2), "b": (7, 1, 2)},
        ),
        # larger than the shares of val and test, and of both classes
        (
            make_images(a=30, b=30, groups=[*range(22), *[99] * 16, *range(22, 44)]),
            0.1,
            {"a": (21, 3, 6), "b": (21, 3, 6)},
        ),
        # a: two pairs, one and one are nearest to 5.2, 1.2 and 1.7 images; b makes up the sums 7 and 10
        (
            make_images(a=8, b=40, groups=[0, 0, 1, 1, 2, 2, 3, 3, *range(4, 44)]),
            0.15,
            {"a": (4, 2, 2), "b": (27, 5, 8)},
        ),
    ],
    ids=["pairs", "two classes", "one large", "pairs beside single images"],
)
def test_groups_are_shared_out_as_in_the_table_by_hand(
    images: Unsplit, val_fraction: float, expected: dict[str, tuple[int, ...]]
) -> None:
    for seed in range(5):
        splits = assign_splits(images, replace(RULE, val_fraction=val_fraction, seed=seed))
        assert table(images, splits) == expected
        assert all(len(found) == 1 for found in splits_of_groups(images.groups.tolist(), splits))


@pytest.mark.parametrize("fold", [None, (2, 3)])
@quick
@for_all(st.booleans().flatmap(grouped_images), st.integers(0, 2**32 - 1))
def test_no_group_crosses_splits(fold: tuple[int, int] | None, images: Unsplit, seed: int) -> None:
    rule = replace(RULE, fold=fold, seed=seed)
    splits = assign_splits(images, rule)
    assert set(splits.tolist()) == {TRAIN, VAL, TEST}
    assert all(len(found) == 1 for found in splits_of_groups(images.groups.tolist(), splits))


def test_an_assignment_that_ignores_groups_is_seen_to_cross() -> None:
    images = make_images(a=60, b=60, groups=[i // 3 for i in range(120)])
    ignoring = assign_splits(replace(images, groups=np.arange(120)), RULE)
    assert any(len(found) > 1 for found in splits_of_groups(images.groups.tolist(), ignoring))


@quick
@for_all(grouped_images(mixed=False), st.integers(0, 2**32 - 1))
def test_shares_with_groups_keep_their_bounds(images: Unsplit, seed: int) -> None:
    num_images = len(images.labels)
    sizes = {TEST: round(0.2 * num_images), VAL: round(0.15 * num_images)}
    sizes[TRAIN] = num_images - sizes[TEST] - sizes[VAL]
    group_sizes = np.unique(images.groups, return_inverse=True, return_counts=True)
    size_of_group = group_sizes[2][group_sizes[1]]
    counts = table(images, assign_splits(images, replace(RULE, seed=seed)))
    has_room = []
    for label, name in enumerate(images.class_names):
        of_class = images.labels == label
        total, singles = np.sum(of_class), np.sum(of_class & (size_of_group == 1))
        largest = size_of_group[of_class].max() if singles < total else 0
        shares = {split: size * total / num_images for split, size in sizes.items()}
        has_room.append(singles >= largest / 2 + largest * total / (2 * min(shares.values())))
        for split, share in shares.items():
            more = counts[name][split] - share
            assert -1.5 * largest - 2 <= more <= largest + 2
        if has_room[-1]:
            assert abs(counts[name][TEST] - shares[TEST]) < 1
            assert abs(counts[name][VAL] - shares[VAL]) < 2
    if all(has_room):
        assert sum(counts[name][TEST] for name in images.class_names) == sizes[TEST]


def test_folds_of_groups_are_as_even_as_scikit_learns() -> None:
    unevenness = np.zeros(3)
    for seed in range(5):
        random = np.random.default_rng(seed)
        groups = np.sort(random.integers(0, 150, 900))
        labels = random.integers(0, 4, 150)[groups] ^ (random.random(900) < 0.1)
        names = list("abcd")
        members = make_label_sets(names, names, None).members
        images = replace(
            make_images(a=900), class_names=names, labels=labels, groups=groups, members=members
        )
        rules = [replace(RULE, fold=(number, 5), seed=seed) for number in range(1, 6)]
        ours = [assign_splits(images, rule) == TEST for rule in rules]
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs = [test for _, test in splitter.split(labels, labels, groups)]
        unstratified = [groups % 5 == number for number in range(5)]
        for index, folds in enumerate((ours, theirs, unstratified)):
            counts = [np.bincount(labels[fold], minlength=4) for fold in folds]
            unevenness[index] += np.std(counts, axis=0).sum()
    assert unevenness[0] < unevenness[1] < 0.1 * unevenness[2]


def test_the_seed_decides_on_groups_and_on_single_images() -> None:
    images = make_images(a=60, b=60, groups=[*[i // 2 for i in range(30)], *range(30, 120)])
    drawn = [assign_splits(images, replace(RULE, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert drawn[0][:30].tolist() != drawn[2][:30].tolist()
    assert drawn[0][30:].tolist() != drawn[2][30:].tolist()
    assert len({str(table(images, splits)) for splits in drawn}) == 1


def test_the_numbers_of_groups_are_irrelevant_but_not_who_is_in_them() -> None:
    images = make_images(a=40, b=40, groups=[i // 2 for i in range(80)])
    splits = assign_splits(images, RULE)
    renumbered = replace(images, groups=1_000_003 * (images.groups % 7) - images.groups)
    assert assign_splits(renumbered, RULE).tolist() == splits.tolist()
    shifted = replace(images, groups=np.roll(images.groups, 1))
    assert assign_splits(shifted, RULE).tolist() != splits.tolist()
    assert assign_splits(images, replace(RULE, seed=1)).tolist() != splits.tolist()


# --- folds


@pytest.mark.parametrize("seed", [0, 5])
def test_folds_are_scikit_learns_and_val_is_cut_from_the_rest(seed: int) -> None:
    images = make_images(a=23, b=57, c=31)
    folds = StratifiedKFold(4, shuffle=True, random_state=seed).split(images.labels, images.labels)
    for number, (rest, test) in enumerate(folds, start=1):
        splits = assign_splits(images, replace(RULE, fold=(number, 4), seed=seed))
        _, val = train_test_split(
            rest, test_size=round(0.15 * 111), random_state=seed, stratify=images.labels[rest]
        )
        assert np.flatnonzero(splits == TEST).tolist() == test.tolist()
        assert np.flatnonzero(splits == VAL).tolist() == sorted(val.tolist())


@pytest.mark.parametrize("method", ["stratified", "stable"])
@pytest.mark.parametrize("num_folds", [2, 3, 10])
@pytest.mark.parametrize("in_groups", [False, True])
def test_the_test_splits_of_all_folds_are_the_images(
    method: Any, num_folds: int, in_groups: bool
) -> None:
    groups = [i // 3 if in_groups and i % 4 else 1000 + i for i in range(907)]
    images = make_images(a=301, b=606, groups=groups)
    if method == "stable":  # a group with one name: no image is left out
        _, first = np.unique(images.groups, return_inverse=True)
        images = replace(images, keys=images.keys[first])
    tested = np.zeros(907, dtype=int)
    for number in range(1, num_folds + 1):
        splits = assign_splits(images, replace(RULE, method=method, fold=(number, num_folds)))
        tested += splits == TEST
        assert all(len(found) == 1 for found in splits_of_groups(groups, splits))
        tolerance = 1 if method == "stratified" else 40
        assert abs(np.sum(splits == TEST) - 907 / num_folds) < tolerance
        assert abs(np.sum(splits == VAL) - 0.15 * 907) < tolerance
    assert (tested == 1).all()


def test_the_test_fraction_is_unused_with_folds_and_the_seed_is_not() -> None:
    images = make_images(a=40, b=40)
    rule = replace(RULE, fold=(1, 5))
    splits = assign_splits(images, rule)
    assert assign_splits(images, replace(rule, test_fraction=0.9)).tolist() == splits.tolist()
    assert assign_splits(images, replace(rule, seed=1)).tolist() != splits.tolist()


@pytest.mark.parametrize(("split", "name"), [(VAL, "val"), (TEST, "test")])
@pytest.mark.parametrize("method", ["stratified", "stable"])
def test_folds_of_given_splits_are_refused(method: Any, split: int, name: str) -> None:
    images = make_images(a=20, b=20, given=([TRAIN] * 15 + [split] * 5) * 2)
    with pytest.raises(UserError) as refused:
        assign_splits(images, replace(RULE, method=method, fold=(2, 5)))
    assert str(refused.value) == (
        f"prepare.fold: 2/5 cuts val and test, but the collection already gives {name}; set"
        " prepare.fold: null, or remove the given splits"
    )


@pytest.mark.parametrize("method", ["stratified", "stable", "given"])
@pytest.mark.parametrize(("split", "name"), [(VAL, "val"), (TEST, "test")])
def test_classes_that_only_val_or_test_is_given_are_refused(method: Any, split: int, name: str) -> None:
    rest = [TRAIN] * 5 + [VAL] * 5 + [TEST] * 5
    images = make_images(a=15, b=15, c=1, d=1, given=[*rest, *rest, split, split])
    with pytest.raises(UserError) as refused:
        assign_splits(images, replace(RULE, method=method))
    assert str(refused.value) == f"data.path: the given {name} split has classes that train lacks: c, d"


# --- stable

STABLE = replace(RULE, method="stable")


def splitmix64(state: int) -> int:
    """The next output of the published generator."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_stable_is_the_published_mixer_of_seed_and_key() -> None:
    assert splitmix64(1234567) == 6457827717110365317  # from Vigna's splitmix64.c, as often cited
    images = make_images(a=200, b=200)
    images.keys[:3] = [0, 1, 2**64 - 1]
    for seed in (0, 2**32 - 1):
        splits = assign_splits(images, replace(STABLE, seed=seed))
        third_fold = assign_splits(images, replace(STABLE, seed=seed, fold=(3, 4)))
        for index, key in enumerate(images.keys.tolist()):
            place = splitmix64(key ^ splitmix64(seed)) / 2**64
            assert splits[index] == (TEST if place < 0.2 else VAL if place < 0.35 else TRAIN)
            in_val = 0.75 <= place < 0.9
            assert third_fold[index] == (TEST if 0.5 <= place < 0.75 else VAL if in_val else TRAIN)


@pytest.mark.parametrize("fold", [None, (4, 5)])
def test_stable_shares_are_within_one_percent_on_a_large_set(fold: tuple[int, int] | None) -> None:
    images = make_images(a=50_000, b=100_000)
    images.keys[:] = np.arange(150_000)  # the worst keys for a hash
    for train, val, test in table(images, assign_splits(images, replace(STABLE, fold=fold))).values():
        total = train + val + test
        assert total in (50_000, 100_000)
        assert abs(val / total - 0.15) < 0.01
        assert abs(test / total - 0.2) < 0.01


def with_near_duplicates(num_images: int, given: bool) -> Unsplit:
    """A few groups of images with keys of their own, in two classes, in a random order."""
    random = np.random.default_rng(num_images)
    images = make_images(a=num_images // 2, b=num_images - num_images // 2)
    images = select(images, random.permutation(num_images))
    images.groups[:] = random.integers(0, num_images * 2 // 3, num_images)
    if given:
        of_group = random.choice([TRAIN, NOT_GIVEN, NOT_GIVEN, TEST], num_images)
        images.given[:] = np.where(random.random(num_images) < 0.7, of_group[images.groups], NOT_GIVEN)
    return images


@pytest.mark.parametrize("given", [False, True], ids=["none given", "test given"])
@pytest.mark.parametrize("fold", [None, (2, 3)])
@quick
@for_all(st.integers(300, 500), st.integers(0, 2**32 - 1), st.data())
def test_stable_never_moves_an_old_image(
    given: bool, fold: tuple[int, int] | None, num_images: int, seed: int, data: st.DataObject
) -> None:
    rule = replace(STABLE, seed=seed, fold=None if given else fold)
    images = with_near_duplicates(num_images, given)
    is_old = np.random.default_rng(data.draw(st.integers(0, 99))).random(num_images) < 0.6
    after = assign_splits(images, rule)[is_old]
    before = assign_splits(select(images, is_old), rule)
    moved = (after != before) & (after != LEFT_OUT)
    assert not moved.any()
    assert (after[before == LEFT_OUT] == LEFT_OUT).all()


def test_stratified_does_move_old_images() -> None:
    images = make_images(a=100, b=100)
    before = assign_splits(select(images, slice(0, 190)), RULE)
    assert (assign_splits(images, RULE)[:190] != before).any()


def test_the_order_is_irrelevant_to_stable_and_not_to_stratified() -> None:
    images = with_near_duplicates(300, given=True)
    order = np.random.default_rng(1).permutation(300)
    for rule, is_same in ((STABLE, True), (RULE, False)):
        splits = assign_splits(images, rule)
        assert (assign_splits(select(images, order), rule) == splits[order]).all() == is_same


def test_stable_keeps_of_a_group_the_images_of_the_last_split() -> None:
    images = make_images(a=300, b=300)
    alone = assign_splits(images, STABLE)
    train, val, test = (np.flatnonzero(alone == split)[:9].tolist() for split in (TRAIN, VAL, TEST))
    groups = {
        (train[0], train[1]): [TRAIN, TRAIN],
        (train[2], val[0]): [LEFT_OUT, VAL],
        (train[3], val[1], test[0], test[1]): [LEFT_OUT, LEFT_OUT, TEST, TEST],
        (val[2], test[2]): [LEFT_OUT, TEST],
    }
    expected = alone.copy()
    for number, (members, stay) in enumerate(groups.items()):
        images.groups[list(members)] = 10_000 + number
        expected[list(members)] = stay
    assert assign_splits(images, STABLE).tolist() == expected.tolist()


def test_a_given_split_counts_in_a_group_like_a_drawn_one() -> None:
    images = make_images(a=200, b=200, given=([NOT_GIVEN] * 150 + [TEST] * 50) * 2)
    alone = assign_splits(images, replace(STABLE, val_fraction=0.3))
    assert (alone[images.given == TEST] == TEST).all()
    drawn = np.flatnonzero(alone == VAL)
    assert 60 < len(drawn) < 120  # 0.3 of the pool; no test is cut
    images.groups[[drawn[0], 150]] = 999
    expected = alone.copy()
    expected[drawn[0]] = LEFT_OUT
    assert assign_splits(images, replace(STABLE, val_fraction=0.3)).tolist() == expected.tolist()


@pytest.mark.parametrize("split", [VAL, TEST])
def test_stable_cuts_no_more_of_a_split_that_is_given(split: int) -> None:
    images = make_images(a=200, b=200, given=([TRAIN] * 150 + [split] * 50) * 2)
    splits = assign_splits(images, STABLE)
    assert np.flatnonzero(splits == split).tolist() == np.flatnonzero(images.given == split).tolist()
    assert set(splits.tolist()) == {TRAIN, VAL, TEST}


def test_another_seed_is_another_stable_split() -> None:
    images = make_images(a=200, b=200)
    splits = [assign_splits(images, replace(STABLE, seed=seed)) for seed in (0, 1)]
    agreement = np.mean(splits[0] == splits[1])
    assert abs(agreement - (0.65**2 + 0.15**2 + 0.2**2)) < 0.1  # that of independent draws


# --- what is refused


def refusal(images: Unsplit, **changes: Any) -> str:
    with pytest.raises(UserError) as refused:
        assign_splits(images, replace(RULE, **changes))
    return str(refused.value)


ADD = "; add images, or merge or remove the class"


@pytest.mark.parametrize(
    ("images", "fold", "message"),
    [
        (
            make_images(a=20, b=2),
            None,
            " for train, val and test: b has 2; a class needs at least 3" + ADD,
        ),
        (
            make_images(a=20, b=1, c=2),
            None,
            " for train, val and test: b has 1, c has 2; a class needs at least 3" + ADD,
        ),
        (
            make_images(a=20, **{f"b{i}": 2 for i in range(8)}),
            None,
            " for train, val and test: b0 has 2, b1 has 2, b2 has 2, b3 has 2, b4 has 2, and 3 more;"
            " a class needs at least 3" + ADD,
        ),
        (
            make_images(a=20, b=5, groups=[*range(20), 30, 30, 30, 31, 31]),
            None,
            " for train, val and test: b has 5 in 2 groups; a class needs at least 3 groups" + ADD,
        ),
        (
            make_images(a=20, b=4),
            (2, 5),
            " for 2/5 of prepare.fold: b has 4; a class needs at least 5"
            + ADD
            + ", or lower the number of folds",
        ),
        (
            make_images(a=20, b=3),
            (1, 2),
            " for 1/2 of prepare.fold: b has 3; a class needs at least 4"
            + ADD
            + ", or lower the number of folds",
        ),
        (
            make_images(a=8, b=8, given=[TRAIN] * 6 + [TEST] * 2 + [TRAIN] + [TEST] * 7),
            None,
            " beside those given as test for train and val: b has 1; a class needs at least 2" + ADD,
        ),
    ],
)
@pytest.mark.parametrize("method", ["stratified", "stable"])
def test_classes_too_small_for_any_fraction_are_named(
    method: str, images: Unsplit, fold: tuple[int, int] | None, message: str
) -> None:
    assert refusal(images, fold=fold, method=method) == "too few images" + message


MERGE = "; add images, or merge or remove these classes, or set "


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (
            make_images(a=20, b=3),
            {},
            "prepare.val_fraction 0.15 and prepare.test_fraction 0.2 leave val without b (3 in all)"
            + MERGE
            + "prepare.val_fraction: 0.2, which works",
        ),
        (
            make_images(a=20, b=20),
            {"test_fraction": 0.01},
            "prepare.val_fraction 0.15 and prepare.test_fraction 0.01 leave test without a (20 in all),"
            " b (20 in all)" + MERGE + "prepare.test_fraction: 0.04, which works",
        ),
        (
            make_images(a=100, b=4),
            {"val_fraction": 0.45, "test_fraction": 0.45},
            "prepare.val_fraction 0.45 and prepare.test_fraction 0.45 leave train without b (4 in all)"
            + MERGE
            + "prepare.val_fraction: 0.425 and prepare.test_fraction: 0.425, which works",
        ),
        (
            make_images(a=200, b=5),
            {"fold": (2, 5), "val_fraction": 0.05},
            "prepare.fold 2/5 and prepare.val_fraction 0.05 leave val without b (5 in all)"
            + MERGE
            + "prepare.val_fraction: 0.11, which works",
        ),
        (
            make_images(a=100, b=4),
            {"fold": (1, 2), "val_fraction": 0.48},
            "prepare.fold 1/2 and prepare.val_fraction 0.48 leave train without b (4 in all)"
            + MERGE
            + "prepare.val_fraction: 0.37, which works",
        ),
        (
            make_images(a=50, b=3),
            {"val_fraction": 0.2, "test_fraction": 0.7},
            "prepare.val_fraction 0.2 and prepare.test_fraction 0.7 leave val without b (3 in all)"
            + MERGE
            + "prepare.test_fraction: 0.415, which works",
        ),
        (
            make_images(a=20, b=20, groups=[i // 2 for i in range(40)]),
            {"val_fraction": 0.01},
            "prepare.val_fraction 0.01 and prepare.test_fraction 0.2 leave val without a (20 in all),"
            " b (20 in all)" + MERGE + "prepare.val_fraction: 0.05, which works",
        ),
        (
            make_images(a=40, groups=[i // 2 for i in range(40)], given=[TRAIN] * 20 + [VAL] * 20),
            {"test_fraction": 0.6},
            "prepare.test_fraction 0.6 leaves train without a (40 in all)"
            + MERGE
            + "prepare.test_fraction: 0.46, which works",
        ),
        (
            make_images(a=40, b=40, given=([TRAIN] * 20 + [VAL] * 20) * 2),
            {"test_fraction": 0.49},
            "prepare.test_fraction 0.49 leaves test without a (40 in all), b (40 in all)"
            + MERGE
            + "prepare.test_fraction: 0.48, which works",
        ),
    ],
)
def test_fractions_that_leave_a_class_out_are_refused_with_ones_that_work(
    images: Unsplit, changes: dict[str, Any], message: str
) -> None:
    assert refusal(images, **changes) == message


def test_stable_that_leaves_a_class_out_by_chance_points_to_stratified() -> None:
    message = refusal(make_images(a=200, b=5), method="stable", val_fraction=0.05)
    assert " without b (5 in all)" in message
    assert message.endswith(", or set prepare.split: stratified, which needs fewer images")


@pytest.mark.parametrize("method", ["stratified", "stable"])
@pytest.mark.parametrize("fold", [None, (1, 3)])
@quick
@for_all(
    st.lists(st.integers(1, 14), min_size=1, max_size=5),
    st.floats(0.01, 0.6),
    st.floats(0.01, 0.6),
    st.sampled_from([1, 2, 3]),
)
def test_every_class_is_in_every_split_or_named_and_what_is_said_to_work_works(
    method: Any,
    fold: tuple[int, int] | None,
    counts: list[int],
    val_fraction: float,
    test_fraction: float,
    group_size: int,
) -> None:
    counts_by_name = {f"class{i}": count for i, count in enumerate(counts)}
    images = make_images(**counts_by_name, groups=[i // group_size for i in range(sum(counts))])
    rule = replace(
        RULE, method=method, fold=fold, val_fraction=val_fraction, test_fraction=test_fraction
    )
    try:
        splits = assign_splits(images, rule)
    except UserError as error:
        message = str(error)
        assert re.search(r"class\d", message)
        works = re.findall(r"prepare\.(\w+_fraction): ([0-9.]+)", message)
        if not works:
            return
        rule = replace(rule, **{name: float(value) for name, value in works})
        splits = assign_splits(images, rule)
    assert min(min(row) for row in table(images, splits).values()) > 0
