"""Random numbers without state: each is a pure function of the seed and a counter.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3"
(SC 2011), in integer tensor arithmetic. The numbers are the same on CPU and GPU, in any order
and with any number of workers.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = TypeVar("Words", Tensor, NDArray[np.int64])

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Return random words for counters.

    Args:
        counter: int64 ``(n, 4)``, each word 0..2**32 - 1.
        key: two words, each 0..2**32 - 1.

    Returns:
        int64 ``(n, 4)``, uniform in 0..2**32 - 1.
    """
    x0, x1, x2, x3 = counter.unbind(1)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # products wrap around in int64; shift and mask restore the unsigned halves
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        high0, low0 = (p0 >> 32) & _MASK, p0 & _MASK
        high1, low1 = (p1 >> 32) & _MASK, p1 & _MASK
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((x0, x1, x2, x3), dim=1)


def words(seed: int, stream: int, epoch: int, sample_ids: Tensor) -> Tensor:
    """Return four random words per sample.

    Args:
        seed: 0..2**32 - 1.
        stream: a number per purpose, so that two purposes never share words.
        epoch: counted from 0.
        sample_ids: int64 ``(n,)``, 0..2**32 - 1.

    Returns:
        int64 ``(n, 4)``, uniform in 0..2**32 - 1, on the device of ``sample_ids``.
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
