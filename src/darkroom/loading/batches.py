"""Batches of prepared images on the device, in an order that depends on seed and epoch alone."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView
from darkroom.inputs import INPUT_WORDS
from darkroom.loading.placement import (
    Augmentation,
    Features,
    PlacedFeatures,
    PlacedImages,
    Request,
    num_bytes_of,
    place_images,
    send,
)
from darkroom.loading.sampling import Sampling, balanced_order, natural_order

Batch = tuple[Tensor, Tensor]
"""images: uint8 ``(n, channels, height, width)``, 0..255, channels last in memory, or their features,
float32 ``(n, num_features)``;
targets: int64 ``(n,)``; or, if an image may have several labels, uint8 ``(n, num_classes)``, 1 for
each label of the image and 0 for the others; or masks, uint8 ``(n, height, width)``, with the class of
each pixel, or ``VOID``. Both are on the device."""


class TrainBatch(NamedTuple):
    """A batch of training images. All tensors are on the device."""

    images: Tensor
    """As in ``Batch``; float32 if images are mixed."""
    targets: Tensor
    """As in ``Batch``."""
    weights: Tensor | None = None
    """float32 ``(n,)`` for the loss, with mean 1 over the split; None if all images count the same."""
    other_targets: Tensor | None = None
    """Targets of the images that were mixed in; None if images are not mixed."""
    shares: Tensor | None = None
    """float32 ``(n,)``, 0..1: weight of ``targets``; the rest is the weight of ``other_targets``."""
    teacher_logits: Tensor | None = None
    """float32 logits of the teacher, in the shape of the network's; None without a teacher."""


class Batches:
    """The images of one split in batches whose sizes differ by at most one.

    There is thus no small last batch, on which batch normalisation would fail. Small batches are loaded
    and augmented several at a time, because each operation has a fixed cost.

    Args:
        workers: number of processes that load images if that is costly; with 0, this process loads them.
        needs_host: whether ``epoch`` will be called with an augmentation whose ``needs_host`` is true.
        sampling: how the images of an epoch are chosen.
    """

    def __init__(
        self,
        shards: Shards,
        device: torch.device,
        batch_size: int,
        workers: int = 0,
        needs_host: bool = False,
        sampling: Sampling = "natural",
    ) -> None:
        self.num_images = len(shards)
        self._shards = shards
        self._images: PlacedImages
        noun = INPUT_WORDS[shards.input].several
        self._images, self.placement = place_images(shards, device, workers, needs_host, noun)
        # masks are small, so that decoding them needs no processes of its own
        masks = shards.masks
        self._masks = None if masks is None else place_images(masks, device, 0, False)[0]
        self._needs_host = needs_host
        self._sampling = sampling
        self._set_batch_size(batch_size)
        self._labels = torch.from_numpy(shards.labels)
        self._weights = None
        if shards.weights is not None:
            self._weights = torch.from_numpy(shards.weights / shards.weights.mean()).float()
        self._device = device

    @property
    def digest(self) -> str:
        """Digest of the shards: equal digests mean equal images in the same order."""
        return self._shards.digest

    @property
    def labels(self) -> Tensor:
        """The labels of all images as ``Shards`` has them, on the CPU."""
        return self._labels

    @property
    def paths(self) -> list[str]:
        """The files of the images."""
        return self._shards.paths

    def with_batch_size(self, batch_size: int) -> Self:
        """Return the same images in batches of another size, without placing them again."""
        others = copy.copy(self)
        others._set_batch_size(batch_size)
        return others

    def _set_batch_size(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.num_steps = -(-self.num_images // batch_size)
        self._chunk_steps = self._steps_at_once(num_bytes_of(self._shards))

    def viewed(self, view: EvaluationView | None) -> "Batches":
        """Return the images in another view, loaded by this process; themselves if it is the same."""
        shards = self._shards.viewed(view)
        if shards is self._shards:
            return self
        return Batches(shards, self._device, self._batch_size)

    def with_features(self, features: Features) -> Self:
        """Return the same samples, labels and orders with features instead of images.

        Args:
            features: float32 ``(n, num_features)``, in the order of the shards.
        """
        others = copy.copy(self)
        others._images = PlacedFeatures(features, self._device)
        others._chunk_steps = others._steps_at_once(features[:1].nbytes)
        return others

    def views(
        self, parts: Iterable[Tensor], augmentation: Augmentation | None, epoch: int
    ) -> Iterator[Tensor]:
        """Yield the images at some positions, as ``Batch`` has them, augmented as in ``epoch``.

        Args:
            parts: int64 ``(n,)`` each: positions in the order of the shards, which are also the ids
                that the augmentation depends on.
        """
        parts = list(parts)
        on_host = augmentation if augmentation is not None and augmentation.needs_host else None
        loaded = self._images.load(Request(part, part, epoch, on_host) for part in parts)
        for part, images in zip(parts, loaded, strict=True):
            if augmentation is not None:
                images = augmentation.on_device(images, part, epoch)
            yield _chw(images)

    def _steps_at_once(self, bytes_per_image: int) -> int:
        return max(self._images.chunk_bytes // bytes_per_image // self._batch_size, 1)

    def __iter__(self) -> Iterator[Batch]:
        """Yield every image once, in the order of the shards."""
        indices = torch.arange(self.num_images)
        chunks = self._chunks(0)
        parts_of = [slice(chunk[0], chunk[-1]) for chunk in chunks]
        loaded = self._images.load(Request(indices[part]) for part in parts_of)
        targets_of = self._targets(indices, parts_of)
        for chunk, images, targets in zip(chunks, loaded, targets_of, strict=True):
            yield from zip(*_cut(chunk, _chw(images), targets), strict=True)

    def _targets(self, indices: Tensor, parts: Sequence[slice]) -> Iterator[Tensor]:
        """Yield the targets of parts of ``indices``, on the device."""
        if self._masks is not None:
            for masks in self._masks.load(Request(indices[part]) for part in parts):
                yield masks.squeeze(-1)
        else:
            labels = send(self._labels[indices], self._device)
            yield from (labels[part] for part in parts)

    def epoch(
        self, seed: int, epoch: int, augmentation: Augmentation | None, first_step: int = 0
    ) -> Iterator[TrainBatch]:
        """Yield an epoch's images, with the order and the augmentation that ``(seed, epoch)`` determine.

        If images are mixed, each is mixed with the next one in this order, and the last with the first.

        Args:
            first_step: the first batch to yield; skipping the earlier ones costs nothing.

        Raises:
            ValueError: the augmentation needs the host, and ``needs_host`` was not set.
        """
        on_host = augmentation if augmentation is not None and augmentation.needs_host else None
        if on_host is not None and not self._needs_host:
            raise ValueError("Batches(..., needs_host=True) is needed for this augmentation")
        if self._sampling == "balanced":
            order = balanced_order(seed, epoch, self._labels)
        else:
            order = natural_order(seed, epoch, self.num_images)
        indices, sample_ids = (torch.cat((part, part[:1])) for part in order)
        weights = None if self._weights is None else send(self._weights[indices], self._device)

        num_mixed_in = int(augmentation is not None and augmentation.mixes)
        chunks = self._chunks(first_step)
        parts_of = [slice(chunk[0], chunk[-1] + num_mixed_in) for chunk in chunks]
        requests = (Request(indices[part], sample_ids[part], epoch, on_host) for part in parts_of)
        loaded = self._images.load(requests)
        targets_of = self._targets(indices, parts_of)
        for chunk, part, images, targets in zip(chunks, parts_of, loaded, targets_of, strict=True):
            ids = sample_ids[part]
            start, stop = chunk[0], chunk[-1]
            other_targets = shares = None
            if augmentation is not None:
                images = augmentation.on_device(images, ids, epoch)
                if self._masks is not None:
                    targets = augmentation.on_masks(targets, ids, epoch)
                if augmentation.mixes:
                    images, other_targets, shares = augmentation.mix(images, targets, ids, epoch)
            chunk_weights = None if weights is None else weights[start:stop]
            parts = (_chw(images), targets[: stop - start], chunk_weights, other_targets, shares)
            yield from map(TrainBatch, *_cut(chunk, *parts))

    def _chunks(self, first_step: int) -> list[list[int]]:
        """Return for each chunk the positions where its batches begin, and the end of the last."""
        size, num_larger = divmod(self.num_images, self.num_steps)
        bounds = [step * size + min(step, num_larger) for step in range(self.num_steps + 1)]
        starts = range(first_step, self.num_steps, self._chunk_steps)
        return [bounds[start : start + self._chunk_steps + 1] for start in starts]


def _chw(images: Tensor) -> Tensor:
    """Return images with channels before pixels; features as they are."""
    return images.permute(0, 3, 1, 2) if images.ndim == 4 else images


def _cut(bounds: list[int], *parts: Tensor | None) -> list[Sequence[Any]]:
    """Split the tensors of a chunk into those of its batches."""
    sizes = [stop - start for start, stop in pairwise(bounds)]
    return [[None] * len(sizes) if part is None else part.split(sizes) for part in parts]
