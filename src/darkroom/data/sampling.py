"""Which images an epoch consists of, and in what order: functions of (seed, epoch) alone."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from darkroom.data.philox import permutation, words

ORDER_STREAM = 1
CLASS_STREAM = 4

Sampling = Literal["natural", "balanced"]


class Order(NamedTuple):
    """The images of an epoch, one behind the other. Both int64 ``(n,)``, on the CPU."""

    indices: Tensor
    """Which image."""
    sample_ids: Tensor
    """By which it is augmented: the index, but for the copies of an image that comes again."""


def natural_order(seed: int, epoch: int, num_images: int) -> Order:
    """Returns every image once."""
    indices = permutation(seed, ORDER_STREAM, epoch, num_images)
    return Order(indices, indices)


def balanced_order(seed: int, epoch: int, labels: Tensor) -> Order:
    """Returns as many images as there are, of each class as many as of the others, to within one.

    Each class is gone through again and again, in another order each time, and an epoch goes on where
    the one before it stopped. So no image comes a second time before all of its class have come, within
    an epoch and across them.

    Args:
        labels: int64 ``(n,)``, of which each value that occurs is a class.
    """
    num_images = len(labels)
    classes = labels.unique()
    parts = []
    for position, label in enumerate(classes):
        members = (labels == label).nonzero()[:, 0]
        count = num_images // len(classes) + (position < num_images % len(classes))
        places = torch.arange(epoch * count, (epoch + 1) * count)
        rounds = places // len(members)
        for number in rounds.unique().tolist():
            drawn = words(seed, CLASS_STREAM, number, members)
            shuffled = members[torch.argsort((drawn[:, 0] << 31) | (drawn[:, 1] >> 1), stable=True)]
            indices = shuffled[places[rounds == number] % len(members)]
            parts.append(torch.stack((indices, indices + (number - rounds[0]) * num_images)))
    taken = torch.cat(parts, dim=1)[:, permutation(seed, ORDER_STREAM, epoch, num_images)]
    return Order(*taken)
