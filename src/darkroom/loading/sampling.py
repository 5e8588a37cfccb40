"""Which images an epoch consists of, and in what order: functions of (seed, epoch) alone."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from darkroom.loading.philox import join, permutation, philox

ORDER_STREAM = 1
CLASS_STREAM = 4

Sampling = Literal["natural", "balanced"]


class Order(NamedTuple):
    """The images of an epoch, one behind the other. Both int64 ``(n,)``, on the CPU."""

    indices: Tensor
    """Which image."""
    sample_ids: Tensor
    """By which it is augmented: the index, but for the copies of an image that comes again, which are
    numbered from the number of images on."""


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
    sizes = labels.unique(return_counts=True)[1].tolist()
    share, num_larger = divmod(num_images, len(sizes))
    counts = [share + (position < num_larger) for position in range(len(sizes))]
    members_of = labels.argsort(stable=True).split(sizes)
    drawn = [
        _rounds(seed, members, start=epoch * count, count=count)
        for members, count in zip(members_of, counts, strict=True)
    ]
    # which places a class gets is random; in them its images keep their order
    places = torch.repeat_interleave(torch.tensor(counts))[
        permutation(seed, ORDER_STREAM, epoch, num_images)
    ].argsort(stable=True)
    indices = torch.empty(num_images, dtype=torch.int64)
    indices[places] = torch.cat(drawn)
    return Order(indices, _distinct_ids(indices))


def _rounds(seed: int, members: Tensor, start: int, count: int) -> Tensor:
    """Returns ``count`` images of the endless row of a class's rounds, from ``start`` on.

    Args:
        members: int64 ``(n,)``, the images that come in each round, shuffled by its number.
    """
    size = len(members)
    first, skipped = divmod(start, size)
    num_rounds = -(-(skipped + count) // size)
    rounds = torch.arange(first, first + num_rounds).repeat_interleave(size)
    rest = torch.zeros_like(rounds)
    counter = torch.stack((members.repeat(num_rounds), rounds, rest, rest), dim=1)
    words = philox(counter, (seed, CLASS_STREAM))
    keys = join(words).view(num_rounds, size)
    return members[keys.argsort(dim=1, stable=True)].flatten()[skipped : skipped + count]


def _distinct_ids(indices: Tensor) -> Tensor:
    """Returns the indices, but other numbers below ``2 * n`` for those that came before."""
    order = indices.argsort(stable=True)
    by_index = indices[order]
    again = order[1:][by_index[1:] == by_index[:-1]].sort().values
    ids = indices.clone()
    ids[again] = len(indices) + torch.arange(len(again))
    return ids
