"""Says when a training has begun to learn its images by heart."""

from collections.abc import Sequence
from typing import Protocol

LEAST_EPOCHS = 3
"""So many after the best one must have come: one alone may be chance."""

LEAST_RISE = 0.1
"""Relative to the least validation loss."""

LEAST_RISE_NATS = 0.02
"""Less is no harm, however small the least validation loss was."""


class Losses(Protocol):
    """What is read of an epoch's result."""

    @property
    def epoch(self) -> int: ...
    @property
    def train_loss(self) -> float: ...
    @property
    def val_loss(self) -> float: ...


def overfits_since(results: Sequence[Losses]) -> int | None:
    """Returns the epoch, from 1, after which only the training images were learnt better, or None.

    That is the epoch of the least validation loss, if at least three have come since, the training loss
    has gone on falling, and the mean validation loss of the last three is more than a tenth and more
    than 0.02 nats above the least one.
    """
    if not results:
        return None
    best = min(results, key=lambda result: result.val_loss)
    since = [result for result in results if result.epoch > best.epoch]
    if len(since) < LEAST_EPOCHS:
        return None
    last = since[-LEAST_EPOCHS:]
    still_falling = last[-1].train_loss < best.train_loss
    recent = sum(result.val_loss for result in last) / len(last)
    has_risen = recent > best.val_loss + max(LEAST_RISE * best.val_loss, LEAST_RISE_NATS)
    return best.epoch if still_falling and has_risen else None
