"""Iterative stratification against tables by hand and against chance; groups, seeds."""

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from darkroom.preparation.stratify import stratify_iteratively

Matrix = NDArray[np.int64]


def share(labels: Matrix, sizes: list[int], seed: int = 0, groups: Matrix | None = None) -> Matrix:
    alone = np.arange(len(labels))
    return stratify_iteratively(csr_array(labels), alone if groups is None else groups, sizes, seed)


def as_matrix(*images: str) -> Matrix:
    """An image for each text, whose letters are its labels, of ``a`` to ``d``."""
    return np.array([[int(label in image) for label in "abcd"] for image in images])


def random_labels(seed: int) -> tuple[Matrix, list[int]]:
    """100 to 300 images with up to eight labels, each on 3 to 40 % of them; and sizes of three parts."""
    random = np.random.default_rng(seed)
    num_images, num_classes = int(random.integers(100, 300)), int(random.integers(1, 9))
    chances = random.uniform(0.03, 0.4, num_classes)
    labels = (random.random((num_images, num_classes)) < chances).astype(np.int64)
    sizes = [round(0.2 * num_images), round(0.15 * num_images)]
    return labels, [*sizes, num_images - sum(sizes)]


def distances(labels: Matrix, sizes: list[int], parts: Matrix) -> Matrix:
    """How far each part is from its share of each label, in images: ``(num_parts, num_classes)``."""
    shares = np.outer(sizes, labels.sum(axis=0)) / len(labels)
    return np.abs([labels[parts == part].sum(axis=0) for part in range(len(sizes))] - shares)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("images", "sizes", "expected"),
    [
        # shares of both, of b alone and of none: 2, 1 and 1 of each
        (
            ["ab"] * 4 + ["b"] * 4 + [""] * 4,
            [6, 3, 3],
            [{"ab": 2, "b": 2, "": 2}, {"ab": 1, "b": 1, "": 1}, {"ab": 1, "b": 1, "": 1}],
        ),
        # d, the rarest, first: with it come two of c; the other six of c make up 4 and 4
        (["cd"] * 2 + ["c"] * 6, [4, 4], [{"cd": 1, "c": 3}, {"cd": 1, "c": 3}]),
        # a part of none gets none, and the rest gets all
        (["a", "ab", ""], [0, 3], [{}, {"a": 1, "ab": 1, "": 1}]),
        # d goes to the larger part, which lacks most of it, and so does c to the other
        (["abcd"] + ["a"] * 2 + ["b"] * 2 + ["c"], [2, 4], None),
    ],
)
def test_labels_are_shared_out_as_in_the_table_by_hand(
    images: list[str], sizes: list[int], expected: list[dict[str, int]] | None, seed: int
) -> None:
    parts = share(as_matrix(*images), sizes, seed)
    found = [
        {image: np.sum(parts[np.array(images) == image] == part) for image in images}
        for part in range(len(sizes))
    ]
    if expected is None:  # shares of a, b and c: 1 and 2, 1 and 2, 2/3 and 4/3; of d: 1/3 and 2/3
        expected = [{"a": 1, "b": 1, "c": 1}, {"abcd": 1, "a": 1, "b": 1}]
        assert np.bincount(parts).tolist() == [3, 3]  # the paper's method keeps shares, not sizes
    assert [{image: n for image, n in part.items() if n} for part in found] == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_group_counts_with_all_labels_of_its_images(seed: int) -> None:
    images = ["a", "a", "b", "a", "a", "b", "b", ""]
    parts = share(as_matrix(*images), [4, 4], seed, np.array([7, 7, 7, 1, 2, 3, 4, 5]))
    # with the group its part has all its share of a, so the others of a are in the other part
    assert len(set(parts[:3].tolist())) == 1
    assert parts[3] == parts[4] == 1 - parts[0]
    assert np.bincount(parts).tolist() == [4, 4]
    alone = share(as_matrix(*images), [4, 4], seed)
    assert np.bincount(alone[[0, 1, 3, 4]]).tolist() == [2, 2]


def test_shares_are_kept_within_images_where_chance_is_far_off() -> None:
    found, by_chance, sizes_off = [], [], []
    for seed in range(60):
        labels, sizes = random_labels(seed)
        parts = share(labels, sizes, seed)
        found.append(distances(labels, sizes, parts))
        sizes_off.append(np.abs(np.bincount(parts, minlength=3) - sizes).max())
        shuffled = np.random.default_rng(seed).permutation(np.repeat(range(3), sizes))
        by_chance.append(distances(labels, sizes, shuffled))
    assert np.mean([each.mean() for each in found]) < 0.5
    assert max(each.max() for each in found) < 3
    assert max(sizes_off) <= 3
    assert np.mean([each.mean() for each in by_chance]) > 1.5
    assert max(each.max() for each in by_chance) > 9


@settings(deadline=None, derandomize=True, max_examples=60)
@for_all(st.integers(0, 2**32 - 1), st.integers(10, 40))
def test_no_group_crosses_parts_and_shares_stay_near(seed: int, num_groups: int) -> None:
    labels, sizes = random_labels(seed)
    random = np.random.default_rng(seed)
    is_grouped = random.random(len(labels)) < 0.3
    alone = num_groups + np.arange(len(labels))
    groups = np.where(is_grouped, random.integers(0, num_groups, len(labels)), alone)
    parts = share(labels, sizes, seed, groups)
    assert set(parts.tolist()) <= {0, 1, 2}
    assert all(len(set(parts[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    assert distances(labels, sizes, parts).max() < 2 + np.bincount(groups).max() / 2


def test_an_assignment_that_ignores_groups_is_seen_to_cross() -> None:
    labels, sizes = random_labels(1)
    groups = np.arange(len(labels)) // 3
    ignoring = share(labels, sizes)
    assert any(len(set(ignoring[groups == group].tolist())) > 1 for group in set(groups.tolist()))


def test_the_seed_decides_and_nothing_else() -> None:
    labels, sizes = random_labels(2)
    groups = np.arange(len(labels)) // 2
    drawn = [share(labels, sizes, seed, groups).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert share(labels, sizes, 0, 5 + 3 * groups).tolist() == drawn[0]
