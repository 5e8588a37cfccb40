"""Where a split's images are kept while they are used, and how chunks of them reach the device.

There are three placements, which deliver the same bits: on the GPU; memory-mapped; and loaded by worker
processes, which decode encoded images and apply augmentations that take one image at a time.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.dataset.storage import Storage
from darkroom.loading.ahead import copied_ahead, loading_workers
from darkroom.parallel import available_cores

HOST_CHUNK_BYTES = 2 * 2**20
"""Small enough to stay in a CPU's caches from loading to augmentation."""
GPU_CHUNK_BYTES = 32 * 2**20
"""Large enough for few kernel launches per epoch, small enough to take little GPU memory."""

Features = NDArray[np.float32]
"""``(n, num_features)``: a vector per image, in the order of the shards."""


class Augmentation(Protocol):
    """Random changes of images. They depend on an image's id and the epoch, not on the batch.

    Images are uint8 ``(n, height, width, channels)``, ids int64 ``(n,)`` on the CPU.
    """

    @property
    def needs_host(self) -> bool:
        """Whether ``on_host`` changes images."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether ``mix`` is to be called."""
        ...

    def on_host(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Return changed copies of images that are on the CPU; one image at a time."""
        ...

    def on_device(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Return changed images, on their device."""
        ...

    def on_masks(self, masks: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Return masks that are moved as ``on_device`` moves their images.

        Args:
            masks: uint8 ``(n, height, width)``, on the device of the images.
        """
        ...

    def mix(
        self, images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each image with the next one.

        Args:
            images, targets, sample_ids: of ``n + 1`` samples; the last one is only mixed in.

        Returns:
            images float32 ``(n, height, width, channels)``; the other targets, which are ``targets``
            without the first; shares of the first targets, float32 ``(n,)``.
        """
        ...


class Request(NamedTuple):
    """Images to load."""

    indices: Tensor
    """int64 ``(n,)``, on the CPU."""
    sample_ids: Tensor | None = None
    """int64 ``(n,)``, on the CPU: what the augmentation depends on."""
    epoch: int = 0
    augmentation: Augmentation | None = None
    """Its ``on_host`` changes the images before they are copied to the device."""


class PlacedImages(Protocol):
    """The images of a split, wherever they are kept."""

    chunk_bytes: int
    """The best amount to load at once; 0 means a batch."""

    def load(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """Yield the images of each request, uint8 ``(n, height, width, channels)``, on the device.

        Features that replace images are float32 ``(n, num_features)``.
        """
        ...


class Pixels(Protocol):
    """The images of a split, or its masks."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)``"""
        ...

    @property
    def storage(self) -> Storage: ...

    @property
    def dtype(self) -> type[np.generic]:
        """uint8 for images and masks, float64 for rows of a table."""
        ...

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64], out: NDArray[Any]) -> NDArray[Any]:
        """Copy the images at ``indices`` into ``out``; see ``Shards.gather``."""
        ...


def _dtype(pixels: Pixels) -> torch.dtype:
    return torch.from_numpy(np.empty(0, pixels.dtype)).dtype


def num_bytes_of(pixels: Pixels) -> int:
    """Return the size of one image without compression."""
    return int(np.prod(pixels.shape)) * np.dtype(pixels.dtype).itemsize


def load_images(pixels: Pixels, request: Request, pinned: bool = False) -> Tensor:
    """Return the images of a request: ``(n, height, width, channels)``, on the CPU.

    Args:
        pinned: load into pinned memory, from which a GPU copies without waiting.
    """
    shape = (len(request.indices), *pixels.shape)
    images = torch.empty(shape, dtype=_dtype(pixels), pin_memory=pinned)
    pixels.gather(request.indices.numpy(), images.numpy())
    if request.augmentation is not None and request.sample_ids is not None:
        return request.augmentation.on_host(images, request.sample_ids, request.epoch)
    return images


class HostImages:
    """Images that stay in the shards and are copied or decoded by this process."""

    def __init__(self, pixels: Pixels, device: torch.device, needs_host: bool) -> None:
        self._load = partial(load_images, pixels, pinned=device.type == "cuda")
        self._device = device
        self._needs_host = needs_host
        self.chunk_bytes = GPU_CHUNK_BYTES if device.type == "cuda" else HOST_CHUNK_BYTES
        if needs_host:
            self.chunk_bytes = 0  # policies are so slow that the first step would have to wait

    def load(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        chunks = map(self._load, requests)
        if self._needs_host:
            # policies seed torch's global generator, so they must not run in another thread
            return (send(chunk, self._device) for chunk in chunks)
        return _to_device(chunks, self._device)


class WorkerImages:
    """Images that worker processes load."""

    chunk_bytes = 0  # the first batch comes sooner, and workers are busy more evenly

    def __init__(self, pixels: Pixels, device: torch.device, workers: int) -> None:
        self._workers = loading_workers(partial(load_images, pixels), workers)
        self._device = device

    def load(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        return _to_device(self._workers.map(requests), self._device)


class ResidentImages:
    """Images that are all on the device."""

    chunk_bytes = GPU_CHUNK_BYTES

    def __init__(self, images: PlacedImages, pixels: Pixels, device: torch.device) -> None:
        self._images = torch.empty((len(pixels), *pixels.shape), dtype=_dtype(pixels), device=device)
        rows = max(images.chunk_bytes // num_bytes_of(pixels), 256)
        parts = torch.arange(len(pixels)).split(rows)
        for part, chunk in zip(parts, images.load(Request(part) for part in parts), strict=True):
            self._images[part[0] : part[-1] + 1] = chunk

    def load(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        for request in requests:
            yield self._images.index_select(0, send(request.indices, self._images.device))


class PlacedFeatures:
    """Features instead of images: float32 ``(num_images, num_features)``, memory-mapped as a rule."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self._features = features
        self._device = device
        self.chunk_bytes = GPU_CHUNK_BYTES if device.type == "cuda" else HOST_CHUNK_BYTES

    def load(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        chunks = (torch.from_numpy(self._features[request.indices.numpy()]) for request in requests)
        return _to_device(chunks, self._device)


def _to_device(chunks: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    if device.type == "cuda":
        return copied_ahead(chunks, device)
    return (chunk.to(device) for chunk in chunks)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device without waiting for the GPU's pending work."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def place_images(
    pixels: Pixels, device: torch.device, workers: int, needs_host: bool, noun: str = "images"
) -> tuple[PlacedImages, str]:
    """Return the placed images, and a sentence that explains the choice of placement.

    Args:
        workers: number of processes that load images which must be decoded or augmented one at a time;
            with 0, this process does it.
        needs_host: whether the augmentation takes one image at a time, on the CPU.
        noun: what the sentence calls the images.
    """
    is_encoded = pixels.storage == "encoded"
    # measured: if training uses all cores, threads that decode between two steps are faster
    workers_are_faster = device.type != "cpu" or available_cores() > torch.get_num_threads()
    if not (needs_host or (is_encoded and workers_are_faster)):
        workers = 0
    processes = f"{workers} worker process{'es' * (workers > 1)}"
    by_whom = f"by {processes}" if workers else "in this process"
    images: PlacedImages = HostImages(pixels, device, needs_host)
    if workers:
        images = WorkerImages(pixels, device, workers)
    if needs_host:
        return images, f"{noun} augmented {by_whom}: the policy takes one at a time, on the CPU"
    if device.type == "cuda":
        num_bytes = len(pixels) * num_bytes_of(pixels)
        free_bytes, _ = torch.cuda.mem_get_info(device)
        sizes = f"{num_bytes / 2**30:.1f} GiB, and {free_bytes / 2**30:.1f} GiB are free on the GPU"
        if num_bytes <= free_bytes // 2:
            return ResidentImages(images, pixels, device), f"{noun} kept on the GPU: they take {sizes}"
        if not is_encoded:
            return images, f"{noun} memory-mapped and copied to the GPU in advance: they take {sizes}"
    if is_encoded:
        return images, f"{noun} decoded {by_whom}: they are stored encoded"
    if device.type == "cpu":
        return images, f"{noun} memory-mapped: the page cache keeps them in memory"
    return images, f"{noun} memory-mapped, and copied to the device in chunks"
