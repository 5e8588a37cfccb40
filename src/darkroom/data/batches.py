"""Batches of prepared images, on the device, in an order that depends on (seed, epoch) alone."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from darkroom.data.augment import crop_and_flip, draw_crop_and_flip
from darkroom.data.philox import permutation
from darkroom.data.shards import Shards

ORDER_STREAM = 1

Batch = tuple[Tensor, Tensor]
"""images: uint8 ``(n, channels, height, width)``, 0..255, channels last in memory;
targets: int64 ``(n,)``."""


class TrainBatch(NamedTuple):
    """A batch to learn from."""

    images: Tensor
    targets: Tensor
    """Both as in ``Batch``."""
    weights: Tensor | None
    """float32 ``(n,)`` for the loss, 1 in the mean of the whole split; None: all count the same."""


class Images(Protocol):
    """A split's images, wherever they lie."""

    def gather(self, indices: Tensor) -> Tensor:
        """Returns uint8 ``(n, height, width, channels)`` on the device; ``indices`` is on the CPU."""
        ...


class MappedImages:
    """Images that stay in the memory-mapped shards and are copied a batch at a time."""

    def __init__(self, shards: Shards, device: torch.device) -> None:
        self._shards = shards
        self._device = device

    def gather(self, indices: Tensor) -> Tensor:
        images = torch.from_numpy(self._shards.gather(indices.numpy()))
        if self._device.type == "cuda":
            return images.pin_memory().to(self._device, non_blocking=True)
        return images.to(self._device)


class ResidentImages:
    """Images that lie on the device, whole."""

    def __init__(self, shards: Shards, device: torch.device) -> None:
        self._images = torch.empty((len(shards), *shards.shape), dtype=torch.uint8, device=device)
        for indices in np.array_split(np.arange(len(shards)), -(-len(shards) // 4096)):
            images = torch.from_numpy(shards.gather(indices))
            self._images[indices[0] : indices[-1] + 1] = images.to(device)

    def gather(self, indices: Tensor) -> Tensor:
        return self._images[indices.to(self._images.device)]


def place_images(shards: Shards, device: torch.device) -> Images:
    """Puts the images on a GPU if they fill at most half of its free memory.

    Either way every batch has the same bits. On a CPU the page cache is the memory they lie in.
    """
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        if len(shards) * int(np.prod(shards.shape)) <= free_bytes // 2:
            return ResidentImages(shards, device)
    return MappedImages(shards, device)


class Batches:
    """One split on the device, cut into batches whose sizes differ by at most one image.

    So no small rest is left over, on which batch normalisation would fail.
    """

    def __init__(self, shards: Shards, device: torch.device, batch_size: int) -> None:
        self.num_images = len(shards)
        self.num_steps = -(-self.num_images // batch_size)
        self._images = place_images(shards, device)
        self._labels = torch.from_numpy(shards.labels)
        self._weights = None
        if shards.weights is not None:
            self._weights = torch.from_numpy(shards.weights / shards.weights.mean()).float()
        self._device = device

    def __iter__(self) -> Iterator[Batch]:
        """Yields every image once, in the order of the shards."""
        for indices in torch.arange(self.num_images).tensor_split(self.num_steps):
            yield self._batch(self._images.gather(indices), indices)

    def shuffled(
        self, seed: int, epoch: int, crop_padding: int, horizontal_flip: bool
    ) -> Iterator[TrainBatch]:
        """Yields every image once, in the order and with the changes of ``(seed, epoch)``."""
        order = permutation(seed, ORDER_STREAM, epoch, self.num_images)
        changes = draw_crop_and_flip(seed, epoch, order, crop_padding, horizontal_flip)
        is_changed = crop_padding > 0 or horizontal_flip
        for indices, batch_changes in zip(
            order.tensor_split(self.num_steps), changes.tensor_split(self.num_steps), strict=True
        ):
            images = self._images.gather(indices)
            if is_changed:
                images = crop_and_flip(images, batch_changes.to(self._device))
            weights = None if self._weights is None else self._weights[indices].to(self._device)
            yield TrainBatch(*self._batch(images, indices), weights)

    def _batch(self, images: Tensor, indices: Tensor) -> Batch:
        return images.permute(0, 3, 1, 2), self._labels[indices].to(self._device)
