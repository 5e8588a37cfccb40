"""Stratified splits against a table by hand and scikit-learn; determinism; what is refused."""

from collections import Counter
from collections.abc import Sequence

import pytest
from sklearn.model_selection import train_test_split

from darkroom.data.collection import SPLITS, ImageFile, Split
from darkroom.data.splits import assign_splits
from darkroom.errors import UserError


def make_files(split: Split | None = None, **counts: int) -> list[ImageFile]:
    """So many files of each class, in the order of their paths."""
    folder = f"{split}/" if split else ""
    return [
        ImageFile(f"{folder}{label}/{index:04}.png", label, split)
        for label in sorted(counts)
        for index in range(counts[label])
    ]


def table(files: Sequence[ImageFile], splits: Sequence[Split]) -> dict[str, tuple[int, ...]]:
    """class -> images in train, val and test."""
    counts = Counter(zip(splits, (file.label for file in files), strict=True))
    labels = sorted({file.label for file in files})
    return {label: tuple(counts[split, label] for split in SPLITS) for label in labels}


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
    files = make_files(**counts)
    assert table(files, assign_splits(files, val_fraction, test_fraction, seed=0)) == expected


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_draw_is_scikit_learns(seed: int) -> None:
    files = make_files(a=23, b=57, c=31)
    labels = {file.path: file.label for file in files}
    paths = list(labels)
    rest, test = train_test_split(
        paths, test_size=round(0.2 * 111), random_state=seed, stratify=[labels[p] for p in paths]
    )
    rest = sorted(rest)
    _, val = train_test_split(
        rest, test_size=round(0.15 * 111), random_state=seed, stratify=[labels[p] for p in rest]
    )
    splits = assign_splits(files, 0.15, 0.2, seed)
    for name, expected in (("test", test), ("val", val)):
        drawn = [file.path for file, split in zip(files, splits, strict=True) if split == name]
        assert drawn == sorted(expected)


@pytest.mark.parametrize(
    "counts",
    [{"a": 37, "b": 91, "c": 18}, {"a": 9, "b": 500}, {str(i): 11 for i in range(30)}],
    ids=["uneven", "one small", "many"],
)
def test_splits_are_complete_disjoint_and_within_one_image_of_their_share(
    counts: dict[str, int],
) -> None:
    files = make_files(**counts)
    splits = assign_splits(files, 0.15, 0.2, seed=3)
    assert len(splits) == len(files)  # one for each file, so complete and disjoint
    assert set(splits) == set(SPLITS)
    for label, (_, val, test) in table(files, splits).items():
        assert abs(val - 0.15 * counts[label]) <= 1
        assert abs(test - 0.2 * counts[label]) <= 1
    assert splits.count("val") == round(0.15 * len(files))
    assert splits.count("test") == round(0.2 * len(files))


def test_the_seed_decides_and_nothing_else() -> None:
    files = make_files(a=40, b=40)
    splits = [assign_splits(files, 0.15, 0.2, seed) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len({tuple(drawn) for drawn in splits}) == 3
    assert len({str(table(files, drawn)) for drawn in splits}) == 1


def given(**split_counts: int) -> list[ImageFile]:
    """So many files of the classes a and b each, in the folders of these splits."""
    return [
        file
        for split, count in split_counts.items()
        for file in make_files(split, a=count, b=count)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (given(test=5, train=20, val=3), (20, 3, 5)),
        (given(test=5, train=20), (15, 5, 5)),  # val: a quarter of the training folder
        (given(train=20, val=4), (8, 4, 12)),  # test: half of all
        (given(train=20), (5, 5, 10)),
    ],
    ids=["all given", "no val", "no test", "train only"],
)
def test_given_splits_are_kept_and_the_others_drawn_from_train(
    files: list[ImageFile], expected: tuple[int, ...]
) -> None:
    splits = assign_splits(files, 0.25, 0.5, seed=0)
    assert table(files, splits) == {"a": expected, "b": expected}
    for file, split in zip(files, splits, strict=True):
        assert split == file.split or file.split == "train"


def refusal(files: list[ImageFile], val_fraction: float, test_fraction: float) -> str:
    with pytest.raises(UserError) as refused:
        assign_splits(files, val_fraction, test_fraction, seed=0)
    return str(refused.value)


ADVICE = "; add images, remove the class, or change the fraction"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"a": 20, "b": 1},
            "prepare.test_fraction: 4 of 21 images for test cannot hold every class on both sides"
            " (too few images of b has 1 left)",
        ),
        (
            {"a": 20, "b": 1, "c": 1},
            "prepare.test_fraction: 4 of 22 images for test cannot hold every class on both sides"
            " (too few images of b has 1, c has 1 left)",
        ),
        (
            {"a": 100, "b": 2},
            "prepare.test_fraction: 20 of 102 images for test cannot hold every class on both sides"
            " (too few images of b has 2 left)",
        ),
        (
            {"a": 20, "b": 3},
            "prepare.val_fraction: 3 of 18 images for val cannot hold every class on both sides"
            " (too few images of b has 2 left)",
        ),
        (
            {"a": 3, "b": 3},
            "prepare.test_fraction: 1 of 6 images for test cannot hold every class on both sides"
            " (2 classes)",
        ),
    ],
)
def test_too_small_classes_are_refused_with_name_and_count(counts: dict[str, int], message: str) -> None:
    assert refusal(make_files(**counts), 0.15, 0.2) == message + ADVICE


def test_a_fraction_that_rounds_to_nothing_is_refused() -> None:
    files = make_files(a=20, b=20)
    assert refusal(files, 0.1, 0.01).startswith("prepare.test_fraction: 0 of 40 images for test")
    assert refusal(files, 0.01, 0.1).startswith("prepare.val_fraction: 0 of 36 images for val")


@pytest.mark.parametrize(("val_fraction", "test_fraction"), [(0.05, 0.8), (0.8, 0.05), (0.45, 0.45)])
@pytest.mark.parametrize("smallest", range(2, 12))
def test_every_class_is_in_every_split_or_the_class_is_named(
    smallest: int, val_fraction: float, test_fraction: float
) -> None:
    files = make_files(a=100, b=100, rare=smallest)
    try:
        splits = assign_splits(files, val_fraction, test_fraction, seed=0)
    except UserError as error:
        assert "rare has " in str(error)  # noqa: PT017
    else:
        assert min(table(files, splits)["rare"]) > 0
