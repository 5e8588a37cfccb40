"""Tests darkroom.preparation.duplicates."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import photographs, plant, strokes
from sklearn.datasets import load_digits

from darkroom.preparation.detail import detailed_cells, detailed_difference
from darkroom.preparation.duplicates import (
    MAX_NEIGHBOURS,
    NearDuplicates,
    comparable_cells,
    difference,
    exact_duplicates,
    group_of,
    near_duplicates,
)
from darkroom.preparation.measures import perceptual_hash

THRESHOLD = 0.1
CHANGES = ("jpeg", "smaller", "larger", "brightness", "noise", "all")


def search(images: np.ndarray, threshold: float = THRESHOLD) -> NearDuplicates:
    return near_duplicates(perceptual_hash(images), lambda i: images[i], threshold, lambda _: None)


def difference_of(first: np.ndarray, second: np.ndarray) -> float:
    cells = comparable_cells(np.stack([first, second]))
    forth, back = difference(cells, cells[::-1])
    assert forth == back
    return forth


def prepared(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def planted_set(num_images: int, size: int, seed: int) -> np.ndarray:
    """Returns uint8 ``(2n, size, size, 3)``: originals, then a changed copy of each."""
    rng = np.random.default_rng(seed)
    originals = [Image.fromarray(image) for image in photographs(num_images, 128, seed)]
    copies = [plant(image, CHANGES[i % len(CHANGES)], rng) for i, image in enumerate(originals)]
    return np.stack([prepared(image, size) for image in originals + copies])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_images", "size"),
    [(400, 32), (400, 64), (60, 48), (60, 224)],
)
def test_planted_near_duplicates_are_found_and_nothing_else(num_images, size):
    found = search(planted_set(num_images, size, seed=size))
    expected = np.stack([np.arange(num_images), np.arange(num_images) + num_images], axis=1)
    np.testing.assert_array_equal(found.pairs, expected)
    assert found.difference.max() <= THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.25])
def test_search_agrees_with_comparing_all_pairs(threshold):
    images = planted_set(60, 32, seed=3)
    cells, details = comparable_cells(images), detailed_cells(images)
    first, second = np.array(list(combinations(range(len(images)), 2))).T
    between = difference(cells[first], cells[second])
    detail = detailed_difference(details[first], details[second])
    same_detail = (between <= 2 * threshold) & (detail <= 0.8 * threshold)
    near = same_detail | ((between <= threshold) & (detail <= 3 * threshold))  # nothing is crowded
    found = search(images, threshold)
    np.testing.assert_array_equal(found.pairs, np.stack([first[near], second[near]], axis=1))
    np.testing.assert_array_equal(found.difference, between[near])
    assert near.any()


def test_pictures_that_show_faintly_through_are_found():
    images = photographs(201, 32).astype(np.int64)
    blended = (images[:200] * 96 + images[1:] * 4) // 100
    found = search(np.concatenate([images[:200], blended]).astype(np.uint8))
    np.testing.assert_array_equal(found.pairs, np.arange(400).reshape(2, -1).T)


def test_search_does_not_depend_on_the_order_of_images():
    images = planted_set(40, 32, seed=4)
    order = np.random.default_rng(0).permutation(len(images))
    found, mixed = search(images), search(images[order])
    back = np.sort(order[mixed.pairs], axis=1)
    rows = np.lexsort((back[:, 1], back[:, 0]))
    np.testing.assert_array_equal(found.pairs, back[rows])
    np.testing.assert_array_equal(found.difference, mixed.difference[rows])


@pytest.mark.parametrize("size", [32, 64, 224])
def test_defects_in_one_scene_stay_apart(size):
    (scene,) = photographs(1, size)
    cell = max(4, size // 32)
    defects = np.stack([scene] * 6)
    for index, image in enumerate(defects[1:]):  # the first has none
        patch = image[size // 2 :, index * size // 5 :][:cell, :cell]
        patch[:] = np.where(patch.mean() > 128, patch - np.minimum(patch, 90), patch + 90)
    assert not len(search(defects).pairs)
    encoded = [np.asarray(plant(Image.fromarray(i), "noise", np.random.default_rng(0))) for i in defects]
    twins = search(np.concatenate([defects, encoded]))
    np.testing.assert_array_equal(twins.pairs, [[i, i + 6] for i in range(6)])


def test_digits_of_one_class_stay_apart():
    digits = np.round(load_digits().images[..., None] * 255 / 16).astype(np.uint8)
    assert not len(search(digits).pairs)
    lighter = (digits[:50] * 0.95 + 5).astype(np.uint8)
    twins = search(np.concatenate([digits[:50], lighter]))
    np.testing.assert_array_equal(twins.pairs, [[i, i + 50] for i in range(50)])


@pytest.mark.slow
def test_drawings_of_one_stroke_are_copies_only_of_their_copies():
    """In a crowd of thin strokes, hundreds of pairs agree in coarse cells by chance."""
    drawings = strokes(3_000)
    rng = np.random.default_rng(0)
    copies = [
        prepared(plant(Image.fromarray(drawings[i, ..., 0]), CHANGES[i % len(CHANGES)], rng), 28)
        for i in range(300)
    ]
    alone = search(drawings)
    assert not len(alone.pairs)
    assert alone.num_look_alikes > 400
    found = search(np.concatenate([drawings, np.stack(copies)[..., None]]))
    np.testing.assert_array_equal(found.pairs[:, 1], found.pairs[:, 0] + 3_000)
    recall = np.bincount(found.pairs[:, 0] % len(CHANGES), minlength=len(CHANGES)) / 50
    assert dict(zip(CHANGES, recall >= 0.84, strict=True)) == dict.fromkeys(CHANGES, True)
    assert recall.mean() >= 0.93


def test_few_drawings_of_one_stroke_stay_apart_too():
    pairs, look_alikes = zip(
        *(
            (len(found.pairs), found.num_look_alikes)
            for found in (search(strokes(50, seed=i)) for i in range(20))
        ),
        strict=True,
    )
    assert sum(pairs) == 0
    assert sum(look_alikes) > 5


def test_heavily_changed_copies_count_only_where_nothing_else_looks_like_them():
    """Details differ by more than a copy's do; coarse cells agree."""
    image = photographs(1, 32, seed=8)[0].astype(np.int64)
    pattern = (np.indices((32, 32)) // 2).sum(axis=0)[..., None] % 2 * 90
    changed = np.clip(image + pattern - 45, 0, 255)
    pair = np.stack([image, changed]).astype(np.uint8)
    details = detailed_cells(pair)
    [detail] = detailed_difference(details[:1], details[1:])
    assert 0.8 * THRESHOLD < detail < 3 * THRESHOLD
    assert difference_of(*pair) < THRESHOLD
    others = photographs(40, 32, seed=9)
    assert search(np.concatenate([pair, others])).pairs.tolist() == [[0, 1]]
    rng = np.random.default_rng(0)
    crowd = image + 30 * rng.normal(0, 1, (8, 32, 32, 1))
    crowded = search(np.concatenate([pair, np.clip(crowd, 0, 255).astype(np.uint8), others]))
    assert not len(crowded.pairs)
    assert crowded.num_look_alikes >= 1


def test_blank_scans_are_no_copies_unless_their_pixels_are_the_same():
    rng = np.random.default_rng(0)
    paper = np.clip(250 + rng.normal(0, 2, (50, 64, 64, 1)), 0, 255).astype(np.uint8)
    assert not len(search(paper).pairs)
    written = paper[:2].copy()
    written[:, 20:30, 20:40] = 60
    np.testing.assert_array_equal(search(np.concatenate([paper, written])).pairs, [[50, 51]])


def test_what_is_not_looked_for():
    (image,) = photographs(1, 64)
    grown = prepared(Image.fromarray(image[6:, 6:]), 64)
    for changed in (image[:, ::-1], image[::-1], np.rot90(image), np.roll(image, 6, axis=1), grown):
        assert difference_of(image, changed) > THRESHOLD


def test_difference_by_hand():
    def flat(level: int) -> np.ndarray:
        return np.full((32, 32, 1), level, np.uint8)

    assert difference_of(flat(100), flat(100)) == 0
    assert difference_of(flat(100), flat(125)) == 0
    # 25.5 of the 30 levels are a change of brightness; a flat image counts as 63.75 levels wide
    assert difference_of(flat(100), flat(130)) == pytest.approx(4.5 / 63.75)
    spotted = flat(100)
    spotted[:4, :4] = 116  # one cell of 64, which also raises the mean by a quarter level
    assert difference_of(flat(100), spotted) == pytest.approx((16 * 63 / 64) / 63.75, abs=0.002)
    halves = np.where(np.arange(32)[:, None, None] < 16, flat(20), flat(220))
    damaged = halves.copy()
    damaged[:4, :4] = 60  # 40 of a range of 200
    assert difference_of(halves, damaged) == pytest.approx(0.2, abs=0.01)
    red, damaged_red = (np.concatenate([x, flat(9), flat(9)], axis=2) for x in (halves, damaged))
    assert difference_of(red, damaged_red) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("contrast", "is_near"), [(0.92, True), (1.08, True), (0.7, False), (1.4, False)]
)
def test_difference_undoes_small_changes_of_contrast_only(contrast, is_near):
    image = 60 + photographs(1, 64)[0] // 2
    changed = ((image - 128.0) * contrast + 128).astype(np.uint8)
    assert (difference_of(image, changed) < 0.02) == is_near
    assert (difference_of(image, changed) < THRESHOLD) == is_near


def test_flat_images_of_two_colours_stay_apart():
    colours = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (110, 110, 110)], np.uint8)
    assert not len(search(np.broadcast_to(colours[:, None, None], (4, 32, 32, 3))).pairs)


@pytest.mark.slow
def test_a_crowd_is_bounded_and_reported():
    (scene,) = photographs(1, 16)
    rng = np.random.default_rng(0)
    crowd = np.clip(scene + rng.integers(-1, 2, (5_000, 16, 16, 3)), 0, 255).astype(np.uint8)
    found = search(crowd)
    assert found.num_crowded == 5_000
    assert len(crowd) - 1 <= len(found.pairs) <= len(crowd) * MAX_NEIGHBOURS
    assert (np.bincount(group_of(len(crowd), found.pairs)) > 1).sum() <= 3
    cells = comparable_cells(crowd)
    np.testing.assert_array_equal(
        found.difference, difference(cells[found.pairs[:, 0]], cells[found.pairs[:, 1]])
    )
    assert search(photographs(50, 32)).num_crowded == 0


def test_equal_hashes_are_all_joined():
    corner = np.zeros((20_000, 2, 2, 1), np.uint8)
    corner[:, 0, 0] = 200
    found = search(corner)
    assert not group_of(len(corner), found.pairs).any()
    assert not found.difference.any()


@pytest.mark.parametrize("num_images", [0, 1])
def test_too_few_images_for_a_pair(num_images):
    found = search(photographs(num_images, 32))
    assert found.pairs.shape == (0, 2)
    assert found.difference.shape == (0,)


def test_blocks_of_images_make_up_the_whole():
    images = np.random.default_rng(0).integers(0, 256, (5_000, 8, 8, 1), dtype=np.uint8)
    images[2_500:] = images[:2_500] // 2 * 2
    told = []

    def gather(indices: np.ndarray) -> np.ndarray:
        assert (np.diff(indices) > 0).all()
        return images[indices]

    found = near_duplicates(perceptual_hash(images), gather, THRESHOLD, told.append)
    assert sum(told) == len(images)
    assert len(told) > 1
    np.testing.assert_array_equal(found.pairs, np.arange(5_000).reshape(2, -1).T)
    cells = comparable_cells(images)
    np.testing.assert_array_equal(found.difference, difference(cells[:2_500], cells[2_500:]))
    assert len(np.unique(found.difference)) > 10


@given(st.lists(st.integers(0, 5), max_size=30))
@settings(deadline=None, derandomize=True)
def test_exact_duplicates_agree_with_a_dictionary(values):
    firsts: dict[int, int] = {}
    expected = []
    for index, value in enumerate(values):
        if firsts.setdefault(value, index) != index:
            expected.append([firsts[value], index])
    digests = np.array(values, np.uint64) * np.uint64(2**61)
    pairs = exact_duplicates(digests)
    assert pairs.dtype == np.int64
    assert pairs.tolist() == sorted(expected)


@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=12))
@settings(deadline=None, derandomize=True)
def test_group_of_agrees_with_flooding(edges):
    expected = list(range(15))
    for _ in range(15):
        for a, b in edges:
            expected[a] = expected[b] = min(expected[a], expected[b])
    groups = group_of(15, np.array(edges, np.int64).reshape(-1, 2))
    assert groups.dtype == np.int64
    assert groups.tolist() == expected
