"""Orders of an epoch's images: counted by hand, and chi-square tests."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from darkroom.loading.philox import permutation, words
from darkroom.loading.sampling import CLASS_STREAM, ORDER_STREAM, balanced_order, natural_order

torch.set_num_threads(1)


def labels_of(*counts: int, seed: int = 0) -> Tensor:
    """Labels 0, 1, ... with the given number of images each, in any order: int64 ``(n,)``."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).permutation(labels))


CASES = {
    "two classes": labels_of(90, 10),
    "three classes": labels_of(50, 9, 3),
    "a remainder": labels_of(11, 5, 4, 3),
    "balanced already": labels_of(8, 8, 8),
    "a class with one image": labels_of(29, 1, 11),
    "one image a class": labels_of(1, 1, 1, 1),
    "one class": labels_of(13),
    "labels that are missing": labels_of(20, 0, 7, 0, 4),
    "a missing first label": labels_of(0, 5, 17),
}
each_case = pytest.mark.parametrize("name", CASES)


def test_the_natural_order_is_a_permutation_of_which_each_image_is_its_own_sample() -> None:
    for num_images in (1, 2, 53):
        indices, sample_ids = natural_order(3, 5, num_images)
        assert sorted(indices.tolist()) == list(range(num_images))
        assert torch.equal(indices, sample_ids)
        assert torch.equal(indices, permutation(3, ORDER_STREAM, 5, num_images))


@each_case
def test_every_class_comes_as_often_as_the_others_to_within_one(name: str) -> None:
    labels = CASES[name]
    for epoch in range(4):
        indices, _ = balanced_order(0, epoch, labels)
        assert indices.dtype == torch.int64
        assert len(indices) == len(labels)
        counts = Counter(labels[indices].tolist())
        assert counts.keys() == set(labels.tolist())
        assert max(counts.values()) - min(counts.values()) <= 1
    natural = Counter(labels[natural_order(0, 0, len(labels)).indices].tolist())
    is_balanced = max(natural.values()) - min(natural.values()) <= 1
    assert is_balanced == (name in ("balanced already", "one image a class", "one class"))


@each_case
def test_no_image_comes_again_before_all_of_its_class_have_come(name: str) -> None:
    labels = CASES[name]
    sizes = Counter(labels.tolist())
    come: dict[int, list[int]] = {label: [] for label in sizes}
    for epoch in range(9):
        for index in balanced_order(1, epoch, labels).indices.tolist():
            label = int(labels[index])
            if len(come[label]) == sizes[label]:
                come[label] = []
            assert index not in come[label]
            come[label].append(index)


def test_each_round_of_a_class_has_an_order_of_its_own() -> None:
    labels = labels_of(40, 10)
    rare = [index for index in balanced_order(0, 0, labels).indices.tolist() if labels[index] == 1]
    assert len(rare) == 25
    assert rare[:10] != rare[10:20]
    assert sorted(rare[:10]) == sorted(rare[10:20]) == (labels == 1).nonzero()[:, 0].tolist()


def test_rounds_are_shuffled_by_their_number() -> None:
    """A class's images by hand: in each round in the order of what is drawn for them."""
    labels = labels_of(9, 4, 2)
    row: dict[int, list[int]] = {}
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        row[label] = []
        for number in range(40):
            drawn = words(7, CLASS_STREAM, number, members).tolist()
            keys = [(word[0] << 32 | word[1]) >> 1 for word in drawn]
            row[label] += [index for _, index in sorted(zip(keys, members.tolist(), strict=True))]
    for epoch in range(6):
        indices = balanced_order(7, epoch, labels).indices.tolist()
        for label in range(3):
            got = [index for index in indices if labels[index] == label]
            assert got == row[label][5 * epoch : 5 * epoch + 5]


@each_case
def test_copies_have_numbers_of_their_own_and_what_comes_first_its_index(name: str) -> None:
    labels = CASES[name]
    for epoch in range(5):
        indices, sample_ids = (part.tolist() for part in balanced_order(2, epoch, labels))
        assert len(set(sample_ids)) == len(labels)
        come: set[int] = set()
        copies = []
        for index, sample in zip(indices, sample_ids, strict=True):
            if index in come:
                copies.append(sample)
            else:
                assert sample == index
            come.add(index)
        assert copies == list(range(len(labels), len(labels) + len(copies)))
        if name in ("balanced already", "one image a class", "one class"):
            assert not copies
        else:
            assert copies


def test_numbers_of_copies_fit_into_32_bits_however_rare_a_class_is() -> None:
    labels = torch.zeros(150_000, dtype=torch.int64)
    labels[7] = 1
    indices, sample_ids = balanced_order(0, 1, labels)
    assert int((indices == 7).sum()) == 75_000
    assert len(sample_ids.unique()) == len(labels)
    assert int(sample_ids.max()) < 2 * len(labels)


@each_case
def test_the_order_follows_seed_and_epoch_and_nothing_else(name: str) -> None:
    labels = CASES[name]
    balanced_order(5, 0, labels)
    order = balanced_order(0, 3, labels)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = balanced_order(0, 3, labels.clone())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, order, again))
    if len(labels) > 4:
        for other in (balanced_order(1, 3, labels), balanced_order(0, 4, labels)):
            assert not torch.equal(other.indices, order.indices)


NUM_TIMES = 300


def orders(labels: Tensor) -> Tensor:
    """Orders of many seeds and epochs: int64 ``(NUM_TIMES, n)``."""
    drawn = [balanced_order(number // 3, number % 3, labels).indices for number in range(NUM_TIMES)]
    return torch.stack(drawn)


@pytest.mark.slow
def test_every_place_is_as_likely_for_every_class_and_image() -> None:
    labels = labels_of(12, 5, 3)
    drawn = orders(labels)
    for label, count in enumerate((7, 7, 6)):
        at_place = (labels[drawn] == label).sum(dim=0)
        assert at_place.sum() == count * NUM_TIMES
        assert chisquare(at_place.numpy()).pvalue > 1e-3
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        at_first = torch.stack([(drawn[:, :5] == index).sum() for index in members])
        assert chisquare(at_first.numpy()).pvalue > 1e-3
    in_blocks = labels[drawn].sort(dim=1).values  # one class behind the other
    assert chisquare((in_blocks == 0).sum(dim=0).numpy()).pvalue < 1e-6


def test_each_image_comes_as_often_as_the_others_of_its_class() -> None:
    labels = labels_of(12, 5, 3)
    times = torch.zeros(20, dtype=torch.int64)
    for epoch in range(30):
        times += balanced_order(0, epoch, labels).indices.bincount(minlength=20)
        for label in range(3):
            of_class = times[labels == label]
            assert of_class.max() - of_class.min() <= 1
    assert times[labels == 2].min() > 3 * times[labels == 0].max()
