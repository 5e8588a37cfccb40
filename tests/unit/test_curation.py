"""Duplicates and conflicts: what is left out, what stays together, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from effort import at_least
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import photographs
from preparation import Prepared, prepare, read_csv

from darkroom.collection.collection import Collection
from darkroom.collection.entries import SPLITS
from darkroom.collection.entry_table import SCHEMA
from darkroom.collection.folder import FolderFiles
from darkroom.collection.labels import make_label_sets
from darkroom.collection.trouble import Troubles
from darkroom.errors import UserError
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.curation import SHOWN, Curation, Duplicates, curate
from darkroom.preparation.duplicates import exact_duplicates
from darkroom.preparation.ingest import IngestedImages

TRAIN, VAL, TEST, NOT_GIVEN = 0, 1, 2, -1


def candidates(
    pixels: str, labels: str = "", given: list[int] | None = None, groups: list[int] | None = None
) -> Candidates:
    """Makes images called 0.png, 1.png, ...; a letter of ``pixels`` stands for the pixels of each.

    Args:
        labels: a letter for each, ``a`` or ``b``; all ``a`` by default.
        given, groups: -1 for none.
    """
    count = len(pixels)
    paths = [f"{index}.png" for index in range(count)]
    columns = {name: [None] * count for name in SCHEMA.names} | {"path": paths}
    table = pa.table(columns, schema=SCHEMA)
    return Candidates(
        collection=Collection(FolderFiles(Path("images")), table),
        images=IngestedImages(None, np.arange(count), None, "decoded"),  # type: ignore[arg-type]
        rows=np.arange(count),
        reads=np.arange(count),
        class_names=["a", "b"],
        labels=np.array(["ab".index(label) for label in labels or "a" * count]),
        given=np.array(given or [NOT_GIVEN] * count, np.int8),
        groups=np.array(groups or [-1] * count),
        group_names=["g0", "g1", "g2", "g3"],
        weights=np.ones(count),
        digests=np.array([ord(letter) for letter in pixels], np.uint64),
        hashes=np.zeros((count, 12), np.uint8),
        sets=make_label_sets(["a", "b"], ["a", "b"], None),
    )


def duplicates(images: Candidates, *near: tuple[int, int, float]) -> Duplicates:
    """Pairs the images with the same digest, and those of ``near``: first, second, difference."""
    exact = [(*pair, 0.0) for pair in exact_duplicates(images.digests).tolist()]
    pairs = np.array(sorted([*exact, *near])).reshape(-1, 3)
    return Duplicates(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), pairs[:, 2])


def decide(
    images: Candidates,
    policy: Any,
    folder: Path,
    *near: tuple[int, int, float],
    on_conflict: Any = "error",
) -> Curation:
    troubles = Troubles()
    listed = folder / "duplicates.csv"
    curation = curate(images, duplicates(images, *near), policy, on_conflict, listed, troubles)
    troubles.refuse()
    return curation


def refusal(images: Candidates, policy: str, folder: Path, *near: tuple[int, int, float]) -> str:
    with pytest.raises(UserError) as refused:
        decide(images, policy, folder, *near)
    return str(refused.value)


def together(curation: Curation) -> list[list[int]]:
    """Returns the groups of more than one image."""
    groups = curation.groups
    numbers = [number for number in np.unique(groups).tolist() if number >= 0]
    members = [np.flatnonzero(groups == number).tolist() for number in numbers]
    return [group for group in members if len(group) > 1]


# Policies. 0 and 2 have the same pixels, 1 and 4 nearly the same, 3 is alone.

PIXELS, NEAR = "xyxzw", (1, 4, 0.02)


def test_group_keeps_all_and_keeps_them_together(tmp_path: Path) -> None:
    curation = decide(candidates(PIXELS), "group", tmp_path, NEAR)
    assert curation.outcomes == {}
    assert together(curation) == [[0, 2], [1, 4]]


def test_keep_keeps_all_and_keeps_nothing_together(tmp_path: Path) -> None:
    curation = decide(candidates(PIXELS), "keep", tmp_path, NEAR)
    assert curation.outcomes == {}
    assert together(curation) == []


def test_drop_leaves_all_but_the_first_out(tmp_path: Path) -> None:
    curation = decide(candidates(PIXELS), "drop", tmp_path, NEAR)
    assert curation.outcomes == {
        2: ("duplicate", "the same pixels as 0.png"),
        4: ("duplicate", "nearly the same pixels as 1.png"),
    }
    assert (curation.groups >= 0).tolist() == [True, True, False, True, False]
    assert together(curation) == []


def test_error_names_the_pairs_and_the_remedy(tmp_path: Path) -> None:
    message = refusal(candidates(PIXELS, "aabaa".replace("b", "a")), "error", tmp_path, NEAR)
    assert message == (
        "data.path: 2 pairs of images with the same or nearly the same pixels; all are listed in "
        f"{tmp_path / 'duplicates.csv'}:\n"
        "  0.png (a) and 2.png (a)\n"
        "  1.png (a) and 4.png (a)\n"
        "Remove one image of each, or set prepare.duplicates to group (kept in one split) or drop"
    )


@pytest.mark.parametrize("policy", ["group", "drop", "error", "keep"])
def test_without_duplicates_no_policy_does_anything(tmp_path: Path, policy: str) -> None:
    curation = decide(candidates("xyzwv"), policy, tmp_path)
    assert curation.outcomes == {}
    assert len(np.unique(curation.groups)) == 5
    assert curation.groups.min() >= 0


def test_a_message_shows_a_few_pairs_and_the_file_lists_all(tmp_path: Path) -> None:
    message = refusal(candidates("x" * 9), "error", tmp_path)
    assert message.startswith("data.path: 8 pairs ")
    shown = [line for line in message.splitlines() if line.startswith("  ")]
    assert len(shown) == SHOWN + 1
    assert shown[-1] == "  ..."
    assert len(read_csv(tmp_path / "duplicates.csv")) == 8
    message = refusal(candidates("x" * (SHOWN + 1)), "error", tmp_path)
    assert "..." not in message
    assert f"0.png (a) and {SHOWN}.png (a)" in message


@pytest.mark.parametrize("policy", ["group", "drop", "error", "keep"])
def test_all_pairs_are_listed_whatever_the_policy(tmp_path: Path, policy: str) -> None:
    images = candidates(PIXELS, "aaaab")
    try:
        decide(images, policy, tmp_path, NEAR)
    except UserError:
        assert policy == "error"
    names = ("first", "second", "first_label", "second_label", "difference")
    rows = [("0.png", "2.png", "a", "a", "0.0000"), ("1.png", "4.png", "a", "b", "0.0200")]
    assert read_csv(tmp_path / "duplicates.csv") == [dict(zip(names, row, strict=True)) for row in rows]


# Conflicting labels: 0, 1 and 3 have the same pixels, 1 another label.


def test_conflicting_labels_are_refused_with_both_paths(tmp_path: Path) -> None:
    assert refusal(candidates("xxzx", "abaa"), "group", tmp_path) == (
        "data.path: 1 pair of images with the same pixels and different labels; all are listed in "
        f"{tmp_path / 'duplicates.csv'}:\n"
        "  0.png (a) and 1.png (b)\n"
        "Correct the labels, or set prepare.on_conflict: drop to use none of these images"
    )
    assert len(read_csv(tmp_path / "duplicates.csv")) == 2


@pytest.mark.parametrize("policy", ["group", "drop", "error", "keep"])
def test_on_conflict_drop_uses_none_of_them(tmp_path: Path, policy: str) -> None:
    curation = decide(candidates("xxzx", "abaa"), policy, tmp_path, on_conflict="drop")
    reason = ("conflicting label", "the same pixels have several labels")
    assert curation.outcomes == dict.fromkeys((0, 1, 3), reason)
    assert (curation.groups >= 0).tolist() == [False, False, True, False]


def test_every_conflict_counts(tmp_path: Path) -> None:
    """y and z each have two labels, v and x have one."""
    curation = decide(candidates("xyzvxyzv", "aabaabaa"), "group", tmp_path, on_conflict="drop")
    assert sorted(curation.outcomes) == [1, 2, 5, 6]
    assert together(curation) == [[0, 4], [3, 7]]


@pytest.mark.parametrize("policy", ["group", "drop", "keep"])
def test_nearly_the_same_pixels_may_have_several_labels(tmp_path: Path, policy: str) -> None:
    curation = decide(candidates("xyz", "aba"), policy, tmp_path, (0, 1, 0.01))
    assert "conflicting label" not in [outcome for outcome, _ in curation.outcomes.values()]


def test_what_conflicts_neither_leaks_nor_is_a_duplicate(tmp_path: Path) -> None:
    """1 is nearly the same as 0 and 3, which conflict: it stays, alone."""
    images = candidates("xyzx", "aaab", given=[TRAIN, VAL, TEST, TEST])
    for policy in ("group", "drop", "error"):
        curation = decide(images, policy, tmp_path, (0, 1, 0.01), on_conflict="drop")
        assert sorted(curation.outcomes) == [0, 3]


# Given splits


@pytest.mark.parametrize("near", [(), ((0, 1, 0.03),)], ids=["exact", "near"])
def test_a_leak_between_given_splits_is_refused_with_the_remedy(tmp_path: Path, near: Any) -> None:
    images = candidates("xyz" if near else "xxz", given=[TRAIN, TEST, VAL])
    message = refusal(images, "group", tmp_path, *near)
    assert message == (
        "data.path: 1 pair of images with the same or nearly the same pixels in different given "
        f"splits, so the test would leak; all are listed in {tmp_path / 'duplicates.csv'}:\n"
        "  0.png (a, train) and 1.png (a, test)\n"
        "Set prepare.duplicates: drop to exclude the copies in the training split, or keep to use the "
        "splits as they are"
        + (
            "; 1 is only nearly the same, and with prepare.near_duplicates: null only the same pixels "
            "count"
            if near
            else ""
        )
    )
    assert "1 pair" in refusal(images, "error", tmp_path, *near)


def test_within_one_given_split_nothing_leaks(tmp_path: Path) -> None:
    images = candidates("xxyyzz", given=[TRAIN, TRAIN, TEST, TEST, TRAIN, NOT_GIVEN])
    assert together(decide(images, "group", tmp_path)) == [[0, 1], [2, 3], [4, 5]]


def test_a_leak_by_way_of_an_image_without_a_split_is_refused(tmp_path: Path) -> None:
    images = candidates("xxyz", given=[TRAIN, NOT_GIVEN, TEST, NOT_GIVEN])
    assert together(decide(images, "group", tmp_path)) == [[0, 1]]
    assert "different given splits" in refusal(images, "group", tmp_path, (1, 2, 0.01))


def test_keep_takes_leaks_as_they_are(tmp_path: Path) -> None:
    images = candidates("xxy", given=[TRAIN, TEST, VAL])
    curation = decide(images, "keep", tmp_path, (0, 2, 0.01))
    assert curation.outcomes == {}
    assert together(curation) == []


@pytest.mark.parametrize(
    ("splits", "kept"),
    [
        ([TRAIN, TEST, VAL], 1),
        ([TRAIN, VAL, TRAIN], 1),
        ([VAL, TRAIN, TEST], 2),
        ([TRAIN, TRAIN, TRAIN], 0),
        ([TEST, TEST, TRAIN], 0),
        ([NOT_GIVEN, TRAIN, NOT_GIVEN], 1),
        ([NOT_GIVEN, VAL, TRAIN], 1),
    ],
)
@pytest.mark.parametrize("near", [(), ((0, 1, 0.03), (1, 2, 0.01))], ids=["exact", "near"])
def test_drop_keeps_the_copy_that_evaluates(
    tmp_path: Path, splits: list[int], kept: int, near: Any
) -> None:
    images = candidates("xyz" if near else "xxx", given=splits)
    curation = decide(images, "drop", tmp_path, *near)
    others = sorted({0, 1, 2} - {kept})
    reasons = dict.fromkeys(others, f"the same pixels as {kept}.png")
    if near:  # a chain: the ends were not compared with each other
        reasons = {
            index: ("" if abs(index - kept) == 1 else "through other images, ") + f"nearly {reason}"
            for index, reason in reasons.items()
        }
    assert curation.outcomes == {index: ("duplicate", reason) for index, reason in reasons.items()}
    assert np.flatnonzero(curation.groups >= 0).tolist() == [kept]


# Groups that the collection gives


def test_groups_join_with_duplicates_at_any_distance(tmp_path: Path) -> None:
    """0 and 1 are one group, 1 has the pixels of 2, 2 is nearly 3, and 3 and 5 are one group."""
    images = candidates("wxxyzv", groups=[0, 0, -1, 1, -1, 1])
    near = (2, 3, 0.01)
    assert together(decide(images, "group", tmp_path, near)) == [[0, 1, 2, 3, 5]]
    assert together(decide(images, "keep", tmp_path, near)) == [[0, 1], [3, 5]]
    assert together(decide(images, "group", tmp_path)) == [[0, 1, 2], [3, 5]]


@pytest.mark.parametrize("policy", ["group", "drop", "error", "keep"])
def test_a_group_in_two_given_splits_is_refused_by_name(tmp_path: Path, policy: str) -> None:
    images = candidates("uvwxy", given=[TRAIN, TEST, TEST, TRAIN, VAL], groups=[0, 2, 2, 2, -1])
    assert refusal(images, policy, tmp_path) == (
        "data.path: the group 'g2' (of data.group_column or data.group_pattern) has images in several "
        "given splits (3 images in such "
        "groups); give each group one split"
    )
    whole = candidates("uvwxy", given=[TRAIN, TEST, TEST, NOT_GIVEN, VAL], groups=[0, 2, 2, 2, -1])
    assert together(decide(whole, policy, tmp_path)) == [[1, 2, 3]]


def found(images: Candidates, policy: Any, folder: Path, *near: tuple[int, int, float]) -> Troubles:
    troubles = Troubles()
    curate(images, duplicates(images, *near), policy, "error", folder / "duplicates.csv", troubles)
    return troubles


def test_one_run_tells_all_kinds_of_trouble(tmp_path: Path) -> None:
    """0 and 1 conflict, 2 and 3 leak, 4 and 5 nearly do, and the group of 6 and 7 is torn."""
    given = [TRAIN, TRAIN, TRAIN, TEST, TRAIN, VAL, TRAIN, TEST]
    images = candidates("xxyyzwvu", "abaaaaaa", given, groups=[-1] * 6 + [1, 1])
    troubles = found(images, "group", tmp_path, (4, 5, 0.05))
    about = {
        trouble.title: (trouble.pairs.tolist(), trouble.differences.tolist()) for trouble in troubles
    }
    assert about == {
        "Same pixels, different labels": ([[0, 1]], [0.0]),
        "Duplicates in different given splits": ([[2, 3], [4, 5]], [0.0, 0.05]),
        "Groups in several given splits": ([], []),
    }
    with pytest.raises(UserError) as refused:
        troubles.refuse("page.html")
    first, *messages, last = str(refused.value).split("\n\n")
    assert first == "3 kinds of mistakes stop prepare:"
    assert messages == [trouble.message for trouble in troubles]
    assert "the group 'g1' (of data.group_column or data.group_pattern) has images" in messages[2]
    assert last == "page.html shows all of this, with pictures of the pairs"


def test_a_kind_of_trouble_alone_is_told_without_a_count_of_kinds(tmp_path: Path) -> None:
    [trouble] = found(candidates("xxzx", "abaa"), "keep", tmp_path)
    assert refusal(candidates("xxzx", "abaa"), "keep", tmp_path) == trouble.message
    assert trouble.pairs.tolist() == [[0, 1]]
    troubles = Troubles()
    troubles.refuse("page.html")
    assert not troubles


def test_a_torn_group_alone_is_no_leak_of_its_copies(tmp_path: Path) -> None:
    """0 and 1 are the same and in train; only the group of 1 and 2 is torn."""
    images = candidates("xxy", given=[TRAIN, NOT_GIVEN, TEST], groups=[0, 0, 0])
    [trouble] = found(images, "group", tmp_path)
    assert trouble.title == "Groups in several given splits"


def test_drop_removes_a_leak_but_not_a_group(tmp_path: Path) -> None:
    """Image 0 is left out, and with it the link between group 0 and the test."""
    images = candidates("xxyz", given=[TRAIN, TEST, TRAIN, VAL], groups=[0, -1, 0, -1])
    assert "in different given splits" in refusal(images, "group", tmp_path)
    assert sorted(decide(images, "drop", tmp_path).outcomes) == [0]


def joined(num_images: int, pairs: set[tuple[int, int]]) -> list[set[int]]:
    """Returns who is with whom, by joining sets one by one."""
    sets = [{index} for index in range(num_images)]
    for first, second in pairs:
        ours = next(group for group in sets if first in group)
        theirs = next(group for group in sets if second in group)
        if ours is not theirs:
            ours |= theirs
            sets.remove(theirs)
    return sets


COLLECTIONS = st.integers(2, 12).flatmap(
    lambda count: st.tuples(
        st.text("uvwxyz", min_size=count, max_size=count),
        st.lists(st.integers(-1, 3), min_size=count, max_size=count),
        st.lists(st.integers(-1, 2), min_size=count, max_size=count),
        st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=4),
    )
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=at_least(100, 300))
@given(COLLECTIONS, st.sampled_from(["group", "drop", "keep"]))
def test_whatever_is_asked_no_group_is_torn(
    tmp_path_factory: pytest.TempPathFactory, collection: Any, policy: str
) -> None:
    pixels, groups, splits, links = collection
    folder = tmp_path_factory.getbasetemp()
    images = candidates(pixels, given=splits, groups=groups)
    near = {pair for pair in links if pair[0] < pair[1] and pixels[pair[0]] != pixels[pair[1]]}
    exact = set(map(tuple, exact_duplicates(images.digests).tolist()))
    members = [np.flatnonzero(images.groups == group).tolist() for group in range(4)]
    groups_given = {(group[0], other) for group in members for other in group[1:]}
    alike = joined(len(pixels), exact | near)

    def is_torn(sets: list[set[int]]) -> bool:
        return any(len({splits[i] for i in one if splits[i] >= 0}) > 1 for one in sets)

    if policy == "drop":
        kept = {max(one, key=lambda i: (splits[i], -i)) for one in alike}
        expected = joined(len(pixels), groups_given)
        expected = [one & kept for one in expected if one & kept]
    else:
        kept = set(range(len(pixels)))
        expected = joined(len(pixels), groups_given | (exact | near if policy == "group" else set()))
    try:
        curation = decide(images, policy, folder, *((*pair, 0.01) for pair in near))
    except UserError:
        assert is_torn(expected)
        return
    assert not is_torn(expected)
    assert set(curation.outcomes) == set(range(len(pixels))) - kept
    assert sorted(together(curation)) == sorted(sorted(one) for one in expected if len(one) > 1)


# From files to the manifest


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for path, pixels in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
    return folder


PHOTOGRAPHS = photographs(24, 32, seed=5)
"""uint8 ``(24, 32, 32, 3)``, 20..235."""


def collection(folder: Path, **changes: np.ndarray) -> Path:
    """Twelve cats and twelve dogs, no two alike, and more files: path, with ``__`` for /, to pixels."""
    images = {f"{'cat' if i < 12 else 'dog'}/{i:02d}.png": PHOTOGRAPHS[i] for i in range(24)}
    more = {f"{name.replace('__', '/')}.png": pixels for name, pixels in changes.items()}
    return save(folder, images | more)


def prepared(folder: Path, out: Path, **options: Any) -> Prepared:
    return prepare(folder, out, **{"image_size": 32, "channels": 3} | options)


def test_the_manifest_says_what_a_copy_is_a_copy_of(tmp_path: Path) -> None:
    folder = collection(
        tmp_path / "images", cat__copy=PHOTOGRAPHS[3], dog__near=np.minimum(PHOTOGRAPHS[15] + 2, 255)
    )
    noisy = PHOTOGRAPHS[15].astype(np.int64)
    noisy[8:16, 8:16] += 5
    save(folder, {"dog/noisy.png": noisy.astype(np.uint8)})
    for policy in ("group", "keep", "drop"):
        left = prepared(folder, tmp_path / policy, duplicates=policy)
        rows = left.rows
        about = {p: (r["duplicate_of"], r["reason"]) for p, r in rows.items() if r["duplicate_of"]}
        is_dropped = policy == "drop"
        assert about == {
            "cat/copy.png": ("cat/03.png", "the same pixels as cat/03.png" if is_dropped else ""),
            "dog/near.png": ("dog/15.png", "nearly the same pixels as dog/15.png" if is_dropped else ""),
            "dog/noisy.png": (
                "dog/15.png",
                "nearly the same pixels as dog/15.png" if is_dropped else "",
            ),
        }
        outcomes = {path: row["outcome"] for path, row in rows.items()}
        assert outcomes == {
            path: "duplicate" if is_dropped and path in about else "used" for path in rows
        }
        assert rows["cat/copy.png"]["difference"] == 0
        assert 0 < rows["dog/near.png"]["difference"] < rows["dog/noisy.png"]["difference"] < 0.05
        assert rows["cat/03.png"]["difference"] is rows["cat/03.png"]["duplicate_of"] is None
        assert left.counts["num_pairs"]["same_pixels"] == 1
        assert left.counts["num_files"]["duplicate"] == (3 if is_dropped else 0)
        listed = {(row["first"], row["second"]): float(row["difference"]) for row in left.pairs}
        assert listed[("cat/03.png", "cat/copy.png")] == 0
        for path in ("dog/near.png", "dog/noisy.png"):
            assert listed[("dog/15.png", path)] == pytest.approx(rows[path]["difference"], abs=5e-5)
    assert set(left.splits) == set(rows) - set(about)


def test_another_brightness_is_near_and_never_the_same(tmp_path: Path) -> None:
    """Brightness is undone before images are compared, which leaves no difference at all."""
    folder = collection(tmp_path / "images", dog__brighter=PHOTOGRAPHS[3] + 10)
    left = prepared(folder, tmp_path / "out", on_conflict="error")  # under another label
    assert left.counts["num_pairs"] == {"same_pixels": 0, "nearly_same_pixels": 1}
    assert left.rows["dog/brighter.png"]["difference"] > 0
    assert left.splits["dog/brighter.png"] == left.splits["cat/03.png"]


def test_without_a_threshold_only_the_same_pixels_count(tmp_path: Path) -> None:
    folder = collection(
        tmp_path / "images", cat__copy=PHOTOGRAPHS[3], dog__brighter=PHOTOGRAPHS[15] + 10
    )
    left = prepared(folder, tmp_path / "out", near_duplicates=None, duplicates="drop")
    assert left.counts["num_pairs"] == {"same_pixels": 1, "nearly_same_pixels": 0}
    assert [row["path"] for row in left.problems] == ["cat/copy.png"]


def test_a_conflict_is_listed_with_both_paths(tmp_path: Path) -> None:
    folder = collection(tmp_path / "images", dog__copy=PHOTOGRAPHS[3])
    with pytest.raises(UserError, match=r"cat/03\.png \(cat\) and dog/copy\.png \(dog\)"):
        prepared(folder, tmp_path / "out")
    left = prepared(folder, tmp_path / "out", on_conflict="drop")
    conflicting = {path for path, outcome in left.outcomes.items() if outcome == "conflicting label"}
    assert conflicting == {"cat/03.png", "dog/copy.png"}
    assert left.rows["dog/copy.png"]["duplicate_of"] == "cat/03.png"
    assert left.counts["num_files"]["conflicting_label"] == 2
    assert sorted(row["path"] for row in left.problems) == sorted(conflicting)


def test_copies_in_the_given_test_split_leave_train(tmp_path: Path) -> None:
    images = {
        f"{split}/{label}/{i}.png": PHOTOGRAPHS[4 * SPLITS.index(split) + i + 12 * (label == "dog")]
        for split in SPLITS
        for label in ("cat", "dog")
        for i in range(4)
    }
    images |= {
        "train/cat/copy.png": images["test/cat/1.png"],
        "train/dog/near.png": images["val/dog/2.png"] + 5,
    }
    folder = save(tmp_path / "images", images)
    with pytest.raises(UserError) as refused:
        prepared(folder, tmp_path / "out")
    assert "  test/cat/1.png (cat, test) and train/cat/copy.png (cat, train)\n" in str(refused.value)
    assert "  train/dog/near.png (dog, train) and val/dog/2.png (dog, val)\n" in str(refused.value)
    left = prepared(folder, tmp_path / "out", duplicates="drop")
    assert {row["path"] for row in left.problems} == {"train/cat/copy.png", "train/dog/near.png"}
    assert left.rows["train/dog/near.png"]["reason"] == "nearly the same pixels as val/dog/2.png"
    assert left.counts["num_images"] == {"train": 8, "val": 8, "test": 8}
    kept = prepared(folder, tmp_path / "out", duplicates="keep")
    assert kept.counts["num_images"] == {"train": 10, "val": 8, "test": 8}
