"""Arrow IPC shards: the images of one split in a few memory-mapped files.

A shard has the columns ``image`` (uint8 height x width x channels, or lossless WebP, according to
``storage``), ``label`` (int32, index into the class names), ``path`` (of the source file) and, if the
collection has weights, ``weight`` (float64). If images may have several labels, or none, ``labels``
(list of int32, ascending) replaces ``label``. If images have masks, ``shown`` (likewise, the classes
that the mask shows) replaces ``label``, and ``mask`` (uint8 height x width, stored as ``image`` is) is
the last column. The schema's metadata contains the shape, the storage and, with several classes per
image, the number of classes. DVC hashes tens of files for any number of images.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.dataset.mapped_shard import map_shard
from darkroom.dataset.pixels import DTYPES, Masks, Pixels, Shape, damaged, gather_pixels
from darkroom.dataset.targets.interface import stored_target
from darkroom.dataset.views import EvaluationView
from darkroom.digests import FileDigest, digest_of_files
from darkroom.errors import UserError
from darkroom.inputs import Input
from darkroom.targets import Target


class Shards:
    """The images of one split, memory-mapped, so that they use the page cache and not the heap.

    Structure, labels and weights are checked here; pixels are checked in ``dataset/prepared.py``.

    Args:
        num_threads: number of threads that decode; None: the number of cores.
        num_classes: number of classes to check labels against; None: not checked.
        view: applied to each image; None: images as they are stored.
        digest: see the attribute; by default the files are hashed when it is first read.

    Raises:
        UserError: there is no shard, a shard is damaged, or the shards do not belong together.
    """

    def __init__(
        self,
        folder: Path,
        num_threads: int | None = None,
        num_classes: int | None = None,
        view: EvaluationView | None = None,
        digest: str | None = None,
    ) -> None:
        files = sorted(folder.glob("*.arrow"))
        self._digest = digest
        if not files:
            raise UserError(f"{folder}: contains no shards; run `dvc repro prepare`")
        mapped = [map_shard(file, num_threads, num_classes) for file in files]
        for file, shard in zip(files, mapped, strict=True):
            if shard.kind != mapped[0].kind:
                raise damaged(file, f"its kind of images or labels differs from {files[0].name}")
        self._folder = folder
        self._stored_shape = mapped[0].shape
        self._set_view(view)
        self.storage = mapped[0].storage
        self.target: Target = mapped[0].target
        self.input: Input = mapped[0].input_
        self.dtype = DTYPES[self.input]
        """uint8 for pixels, float64 for rows."""
        self._blocks = [block for shard in mapped for block in shard.blocks]
        self._starts = np.cumsum([0, *(len(block.labels) for block in self._blocks)])
        self.labels = np.concatenate([block.labels for block in self._blocks])
        """int64 ``(num_images,)``, indices into the class names; if images may have several labels,
        uint8 ``(num_images, num_classes)``, 1 for each label of the image and 0 otherwise; if they have
        masks, bool ``(num_images, num_classes)``, the classes that these show."""
        weights = [block.weights for block in self._blocks if block.weights is not None]
        self.weights = np.concatenate(weights) if weights else None
        """float64 ``(num_images,)``, or None if the collection has no weights."""
        self._masks = [block.masks for block in self._blocks if block.masks is not None]

    def __len__(self) -> int:
        return len(self.labels)

    def viewed(self, view: EvaluationView | None) -> "Shards":
        """Return the same images with another view, without opening the files again."""
        if view == self._view:
            return self
        others = copy.copy(self)
        others._set_view(view)
        return others

    def _set_view(self, view: EvaluationView | None) -> None:
        self._view = view
        self.shape = self._stored_shape if view is None else (*view.size, self._stored_shape[2])
        """``(height, width, channels)``"""

    @property
    def masks(self) -> Masks | None:
        """The masks of the images; None if they have labels instead."""
        if not stored_target(self.target).has_masks:
            return None
        return Masks((*self.shape[:2], 1), self.storage, len(self), self.gather_masks)

    @property
    def digest(self) -> str:
        """SHA-256 over the names and bytes of the shards, and over the view of them."""
        if self._digest is None:
            files = sorted(self._folder.glob("*.arrow"))
            self._digest = digest_of_files({file.name: FileDigest.of(file) for file in files})
        if self._view is None:
            return self._digest
        return hashlib.sha256(f"{self._digest} {self._view}".encode()).hexdigest()

    @property
    def paths(self) -> list[str]:
        """The path of the source file of each image, relative to the collection."""
        return [path for block in self._blocks for path in block.paths.to_pylist()]

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path, int, None, EvaluationView | None]]:
        """Worker processes map the files again, with one thread each: there is one worker per core."""
        return Shards, (self._folder, 1, None, self._view)

    def gather(self, indices: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy the images at ``indices``, in that order: ``dtype`` ``(n, height, width, channels)``.

        Args:
            out: contiguous array that is filled and returned.

        Raises:
            IndexError: an index is out of range.
            UserError: an image is damaged.
        """
        columns = [block.images for block in self._blocks]
        view = None if self._view is None else self._view.__call__
        return self._gather(columns, self._stored_shape, view, self.shape, indices, out)

    def gather_masks(
        self, indices: NDArray[np.int64], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Copy the masks at ``indices``: uint8 ``(n, height, width, 1)``; see ``gather``."""
        stored_shape, shape = (*self._stored_shape[:2], 1), (*self.shape[:2], 1)
        view = None if self._view is None else self._view.of_masks
        return self._gather(self._masks, stored_shape, view, shape, indices, out)

    def _gather(
        self,
        columns: Sequence[Pixels],
        stored_shape: Shape,
        view: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None,
        shape: Shape,
        indices: NDArray[np.int64],
        out: NDArray[Any] | None,
    ) -> NDArray[Any]:
        images = np.empty((len(indices), *shape), self.dtype) if out is None else out
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{len(self)} images; asked for {indices.min()} to {indices.max()}")
        if view is None:
            gather_pixels(columns, self._starts, indices, images)
        else:
            stored = np.empty((len(indices), *stored_shape), np.uint8)
            gather_pixels(columns, self._starts, indices, stored)
            images[...] = view(stored)
        return images

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield all images in order, ``size`` at a time.

        Returns:
            ``dtype`` ``(n, channels, height, width)``, contiguous; the last batch may be smaller.
        """
        for start in range(0, len(self), size):
            images = self.gather(np.arange(start, min(start + size, len(self))))
            yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))
