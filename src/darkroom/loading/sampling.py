"""The images of an epoch and their order, as functions of seed and epoch alone."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from darkroom.loading.philox import join, permutation, philox

ORDER_STREAM = 1
CLASS_STREAM = 4

Sampling = Literal["natural", "balanced"]


class Order(NamedTuple):
    """The images of an epoch in order. Both fields are int64 ``(n,)``, on the CPU."""

    indices: Tensor
    """Positions of the images in the split."""
    sample_ids: Tensor
    """What the augmentation depends on: the index, or, for the repetitions of an image, a number that is
    at least the number of images."""


def natural_order(seed: int, epoch: int, num_images: int) -> Order:
    """Return every image once."""
    indices = permutation(seed, ORDER_STREAM, epoch, num_images)
    return Order(indices, indices)


def balanced_order(seed: int, epoch: int, labels: Tensor) -> Order:
    """Return as many images as the split has, with the same number per class, to within one.

    The images of a class are used in rounds, each in a new order, and an epoch continues the round of
    the epoch before it. No image is thus repeated before all others of its class were used, within an
    epoch and across epochs.

    Args:
        labels: int64 ``(n,)``; each value that occurs is a class.
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
    # the places of a class are random; its images keep their order in them
    places = torch.repeat_interleave(torch.tensor(counts))[
        permutation(seed, ORDER_STREAM, epoch, num_images)
    ].argsort(stable=True)
    indices = torch.empty(num_images, dtype=torch.int64)
    indices[places] = torch.cat(drawn)
    return Order(indices, _distinct_ids(indices))


def _rounds(seed: int, members: Tensor, start: int, count: int) -> Tensor:
    """Return ``count`` images from the endless sequence of a class's rounds, from ``start`` on.

    Args:
        members: int64 ``(n,)``, the images of the class; each round is a permutation of them.
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
    """Return the indices, with another number below ``2 * n`` for each repetition."""
    order = indices.argsort(stable=True)
    by_index = indices[order]
    again = order[1:][by_index[1:] == by_index[:-1]].sort().values
    ids = indices.clone()
    ids[again] = len(indices) + torch.arange(len(again))
    return ids
