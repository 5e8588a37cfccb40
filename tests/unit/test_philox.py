"""Philox against the published answers, a reference in plain integers, and chi-square tests."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from darkroom.loading.philox import below, permutation, philox, words

torch.set_num_threads(1)

RANDOM = np.random.default_rng(0)
MASK = 2**32 - 1


def reference(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as in the paper, in Python's integers, which never overflow."""
    (x0, x1, x2, x3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (p1 >> 32) ^ x1 ^ k0, p1 & MASK, (p0 >> 32) ^ x3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [x0, x1, x2, x3]


def hexadecimal(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    first, second = hexadecimal(key)
    drawn = philox(torch.tensor([hexadecimal(counter)]), (first, second))
    assert drawn.tolist() == [hexadecimal(expected)]
    assert reference(hexadecimal(counter), [first, second]) == hexadecimal(expected)


def test_any_counter_and_key_agree_with_the_reference() -> None:
    for key in RANDOM.integers(0, 2**32, (5, 2)).tolist():
        counters = RANDOM.integers(0, 2**32, (200, 4))
        drawn = philox(torch.from_numpy(counters), (key[0], key[1]))
        assert drawn.tolist() == [reference(counter, key) for counter in counters.tolist()]


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_words_are_those_of_sample_epoch_seed_and_stream(seed: int) -> None:
    ids = [0, 1, 77, 2**32 - 1]
    drawn = words(seed, 3, 9, torch.tensor(ids))
    assert drawn.tolist() == [reference([sample, 9, 0, 0], [seed, 3]) for sample in ids]


def test_words_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    ids = torch.arange(1000)
    assert torch.equal(words(1, 2, 3, ids)[400:410], words(1, 2, 3, ids[400:410]))
    assert torch.equal(words(1, 2, 3, ids.flip(0)), words(1, 2, 3, ids).flip(0))


def test_seed_stream_epoch_and_sample_each_change_all_words() -> None:
    calls = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    drawn = [
        word
        for seed, stream, epoch, sample in calls
        for word in words(seed, stream, epoch, torch.tensor([sample])).flatten().tolist()
    ]
    assert len(set(drawn)) == len(calls) * 4


def p_of_uniform(values: Tensor, limit: int) -> float:
    """The p-value of a chi-square test that 0..limit - 1 are equally likely."""
    return float(chisquare(np.bincount(values.flatten().numpy(), minlength=limit)).pvalue)


@pytest.mark.parametrize("limit", [2, 3, 7, 10, 256, 1000])
@pytest.mark.parametrize("word", range(4))
def test_below_is_uniform(limit: int, word: int) -> None:
    drawn = words(0, 1, 0, torch.arange(100_000))[:, word]
    values = below(drawn, limit)
    assert 0 <= int(values.min()) <= int(values.max()) < limit
    assert p_of_uniform(values, limit) > 1e-3
    assert p_of_uniform(below(drawn // 20 * 19, limit), limit) < 1e-6  # so the test would notice


def test_pairs_of_words_are_independent() -> None:
    values = below(words(3, 1, 4, torch.arange(100_000)), 10)
    for first, second in ((0, 1), (0, 2), (2, 3)):
        assert p_of_uniform(values[:, first] * 10 + values[:, second], 100) > 1e-3
    neighbours = values[:-1, 0] * 10 + values[1:, 0]
    assert p_of_uniform(neighbours, 100) > 1e-3


@pytest.mark.parametrize("limit", [1, 2, 1000, 2**31])
def test_below_reaches_both_ends(limit: int) -> None:
    assert below(torch.tensor([0, MASK]), limit).tolist() == [0, limit - 1]


@pytest.mark.parametrize("num_samples", [0, 1, 2, 1797, 50_000])
def test_a_permutation_holds_every_sample_once(num_samples: int) -> None:
    order = permutation(0, 1, 0, num_samples)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(num_samples))


def test_a_permutation_sorts_by_the_reference() -> None:
    drawn = [reference([sample, 4, 0, 0], [7, 1]) for sample in range(500)]
    expected = sorted(range(500), key=lambda sample: (drawn[sample][0], drawn[sample][1] >> 1))
    assert permutation(7, 1, 4, 500).tolist() == expected


def test_a_permutation_follows_seed_stream_and_epoch_and_is_stable() -> None:
    calls = [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (0, 1, 2)]
    orders = [tuple(permutation(*call, 100).tolist()) for call in calls]
    assert orders == [tuple(permutation(*call, 100).tolist()) for call in calls]
    assert len({*orders, tuple(range(100))}) == len(calls) + 1


def test_every_permutation_is_as_likely_as_another() -> None:
    counts = Counter(tuple(permutation(0, 1, epoch, 4).tolist()) for epoch in range(2400))
    assert chisquare([counts[order] for order in permutations(range(4))]).pvalue > 1e-3
