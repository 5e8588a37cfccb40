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
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.pixels import (
    Masks,
    Pixels,
    PixelWriter,
    Shape,
    damaged,
    gather_pixels,
    map_pixels,
)
from darkroom.dataset.storage import Storage
from darkroom.dataset.targets.interface import stored_target
from darkroom.dataset.views import EvaluationView
from darkroom.digests import FileDigest, HashingFile, digest_of_files
from darkroom.errors import UserError
from darkroom.targets import Target, target_of_columns

SHARD_BYTES = 64 * 2**20
MAX_SHARDS = 64
BATCH_BYTES = 64 * 2**20
"""Size of a record batch, and of the images that a writer holds in memory."""


class ShardWriter:
    """Writes the images of one split, in order, to ``folder/00000.arrow`` and following files.

    A shard has 64 MiB of pixels, or more if there would be over 64 shards.

    Args:
        shape: ``(height, width, channels)`` of every image.
        weighted: whether images have weights.
        target: what images are labelled with.
        num_classes: number of classes, for a target whose column needs it.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int],
        num_images: int,
        storage: Storage = "decoded",
        weighted: bool = False,
        target: Target = "one_class",
        num_classes: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image_bytes = int(np.prod(shape))
        self._folder = folder
        self._rows_per_shard = max(SHARD_BYTES // image_bytes, -(-num_images // MAX_SHARDS), 1)
        self._rows_per_batch = max(BATCH_BYTES // image_bytes, 1)
        kind = stored_target(target)
        self._pixels = {"image": PixelWriter(shape, storage)}
        if kind.has_masks:
            self._pixels["mask"] = PixelWriter((*shape[:2], 1), storage)
        metadata = {"shape": json.dumps(shape), "storage": storage, **kind.metadata(num_classes)}
        columns = [("image", self._pixels["image"].type), kind.column(), ("path", pa.string())]
        columns += [("weight", pa.float64())] if weighted else []
        columns += [("mask", self._pixels["mask"].type)] if kind.has_masks else []
        self._schema = pa.schema(
            [pa.field(name, type_, nullable=False) for name, type_ in columns], metadata=metadata
        )
        self._num_shards = 0
        self._rows_in_shard = 0
        self._file: _OpenShard | None = None
        self.digests: dict[str, FileDigest] = {}
        """Digest of each complete shard, by file name, computed before its bytes are written."""
        self._begin_batch()

    def _begin_batch(self) -> None:
        for pixels in self._pixels.values():
            pixels.clear()
        self._labels: list[int | Sequence[int]] = []
        self._paths: list[str] = []
        self._weights: list[float] = []

    def add(
        self,
        image: Any,
        label: int | Sequence[int],
        path: str,
        weight: float = 1.0,
        mask: Any = None,
    ) -> None:
        """Append one image.

        Args:
            image: the result of ``pack_image`` in any contiguous buffer: bytes or an array.
            label: the label; or all labels, or classes that the mask shows, ascending.
            mask: like ``image``, of one channel; None if images have no masks.
        """
        self._pixels["image"].add(image)
        if mask is not None:
            self._pixels["mask"].add(mask)
        self._labels.append(label)
        self._paths.append(path)
        self._weights.append(weight)
        self._rows_in_shard += 1
        shard_is_full = self._rows_in_shard == self._rows_per_shard
        if shard_is_full or len(self._labels) == self._rows_per_batch:
            self._write_batch()
        if shard_is_full:
            self._close_shard()

    def _write_batch(self) -> None:
        label = self._schema.field(1)
        columns = {
            **{name: pixels.array() for name, pixels in self._pixels.items()},
            label.name: pa.array(self._labels, label.type),
            "path": pa.array(self._paths, pa.string()),
            "weight": pa.array(self._weights, pa.float64()),
        }
        if self._file is None:
            self._file = _OpenShard(self._folder / f"{self._num_shards:05d}.arrow", self._schema)
        names = self._schema.names
        self._file.batches.write_batch(pa.record_batch([columns[n] for n in names], schema=self._schema))
        self._begin_batch()

    def _close_shard(self) -> None:
        if self._file is not None:
            self.digests[self._file.name] = self._file.close()
            self._file = None
            self._num_shards += 1
            self._rows_in_shard = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._labels:
            self._write_batch()
        self._close_shard()


class _OpenShard:
    """A shard that is being written and hashed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.name = path.name
        self._file = path.open("wb", buffering=0)
        self._hashing = HashingFile(self._file)
        self.batches = pa.ipc.new_file(self._hashing, schema)

    def close(self) -> FileDigest:
        self.batches.close()
        self._file.close()
        return self._hashing.digest


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
        mapped = [_map(file, num_threads, num_classes) for file in files]
        for file, shard in zip(files, mapped, strict=True):
            if shard.kind != mapped[0].kind:
                raise damaged(file, f"its kind of images or labels differs from {files[0].name}")
        self._folder = folder
        self._stored_shape = mapped[0].shape
        self._set_view(view)
        self.storage = mapped[0].storage
        self.target: Target = mapped[0].target
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

    def gather(
        self, indices: NDArray[np.int64], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Copy the images at ``indices``, in that order: uint8 ``(n, height, width, channels)``.

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
        out: NDArray[np.uint8] | None,
    ) -> NDArray[np.uint8]:
        images = np.empty((len(indices), *shape), np.uint8) if out is None else out
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{len(self)} images; asked for {indices.min()} to {indices.max()}")
        if view is None:
            gather_pixels(columns, self._starts, indices, images)
        else:
            stored = np.empty((len(indices), *stored_shape), np.uint8)
            gather_pixels(columns, self._starts, indices, stored)
            images[...] = view(stored)
        return images

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, ``size`` at a time.

        Returns:
            uint8 ``(n, channels, height, width)``, contiguous; the last batch may be smaller.
        """
        for start in range(0, len(self), size):
            images = self.gather(np.arange(start, min(start + size, len(self))))
            yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class _Block:
    """One record batch of a shard."""

    images: Pixels
    masks: Pixels | None
    labels: NDArray[Any]
    """Like ``Shards.labels``."""
    paths: pa.Array
    weights: NDArray[np.float64] | None


@dataclass(frozen=True)
class _Shard:
    shape: tuple[int, int, int]
    storage: Storage
    is_weighted: bool
    target: Target
    num_classes: int | None
    """Number of classes, if the column of labels needs it."""
    blocks: list[_Block]

    @property
    def kind(self) -> tuple[object, ...]:
        """The properties that all shards of a split share."""
        return self.shape, self.storage, self.is_weighted, self.target, self.num_classes


def _map(file: Path, num_threads: int | None, num_labelled: int | None) -> _Shard:
    """Map a shard and check its structure.

    Args:
        num_labelled: number of classes to check labels against; None: not checked.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        height, width, channels = json.loads(reader.schema.metadata[b"shape"])
        shape = (height, width, channels)
        is_decoded = reader.schema.metadata[b"storage"] == b"decoded"
        num_classes = json.loads(reader.schema.metadata.get(b"num_classes", b"null"))
        is_weighted = "weight" in reader.schema.names
        target = target_of_columns(reader.schema.names)
        kind = stored_target(target)
        storage: Storage = "decoded" if is_decoded else "encoded"

        def block(batch: pa.RecordBatch) -> _Block:
            batch.validate(full=True)  # offsets are inside their buffers, and text is UTF-8
            masks = None
            if kind.has_masks:
                masks = map_pixels(batch["mask"], (height, width, 1), storage, file, num_threads)
            return _Block(
                map_pixels(batch["image"], shape, storage, file, num_threads),
                masks,
                kind.read(batch, num_classes, num_labelled),
                batch["path"],
                _weights(batch) if is_weighted else None,
            )

        blocks = [block(reader.get_batch(index)) for index in range(reader.num_record_batches)]
        if not sum(len(block.labels) for block in blocks):
            raise ValueError("no images")
        return _Shard(shape, storage, is_weighted, target, num_classes, blocks)
    except (pa.ArrowException, OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise damaged(file, error) from None


def _weights(batch: pa.RecordBatch) -> NDArray[np.float64]:
    """Return the weights of a record batch: float64 ``(n,)``.

    Raises:
        ValueError: a weight is not a finite number above 0.
    """
    weights = np.from_dlpack(batch["weight"]).astype(np.float64, copy=False)
    wrong = weights[~((weights > 0) & np.isfinite(weights))]
    if len(wrong):
        raise ValueError(f"weight {wrong[0]}; allowed are finite numbers above 0")
    return weights
