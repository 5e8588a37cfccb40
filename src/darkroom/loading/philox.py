"""Random numbers without state: each is a pure function of the seed and a counter.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3"
(SC 2011), in integer arithmetic on the CPU. The numbers are the same in any order and with any number
of workers, whatever device uses them.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = TypeVar("Words", Tensor, NDArray[np.int64])

# in NumPy, a few hundred words take a third of the time that they take in PyTorch
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_BITS = np.uint64(32)
_ROUNDS = 10


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Return random words for counters.

    Args:
        counter: int64 ``(n, 4)`` on the CPU, each word 0..2**32 - 1.
        key: two words, each 0..2**32 - 1.

    Returns:
        int64 ``(n, 4)``, uniform in 0..2**32 - 1.
    """
    x0, x1, x2, x3 = counter.numpy().view(np.uint64).T.copy()
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(_ROUNDS):
        # of two words of 32 bits, so the unsigned products are exact
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0, x1, x2, x3 = (p1 >> _BITS) ^ x1 ^ k0, p1 & _MASK, (p0 >> _BITS) ^ x3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.from_numpy(np.stack((x0, x1, x2, x3), axis=1).view(np.int64))


def words(seed: int, stream: int, epoch: int, sample_ids: Tensor) -> Tensor:
    """Return four random words per sample.

    Args:
        seed: 0..2**32 - 1.
        stream: a number per purpose, so that two purposes never share words.
        epoch: counted from 0.
        sample_ids: int64 ``(n,)`` on the CPU, 0..2**32 - 1.

    Returns:
        int64 ``(n, 4)``, uniform in 0..2**32 - 1.
    """
    rest = torch.zeros_like(sample_ids)
    counter = torch.stack((sample_ids, rest + epoch, rest, rest), dim=1)
    return philox(counter, (seed, stream))


def join(words: Words) -> Words:
    """Return 63 random bits per row of words: int64 ``(n,)``, uniform in 0..2**63 - 1."""
    return (words[:, 0] << 31) | (words[:, 1] >> 1)


def below(words: Words, limit: Words | int) -> Words:
    """Map words to integers 0..limit - 1, uniform to within 2**-32."""
    return (words * limit) >> 32


def permutation(seed: int, stream: int, epoch: int, num_samples: int) -> Tensor:
    """Return a random permutation of ``num_samples`` indices: int64 ``(num_samples,)``, on the CPU."""
    drawn = words(seed, stream, epoch, torch.arange(num_samples))
    return torch.argsort(join(drawn), stable=True)
