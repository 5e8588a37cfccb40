"""Arrow IPC shards: decoded images of one split in a few files that are memory-mapped.

A shard is one record batch with the columns ``image`` (fixed-size binary: uint8 height x width x
channels), ``label`` (int32, index into the class names) and ``path`` (of the source file). The
schema's metadata holds the shape. DVC hashes tens of files, whatever the number of images.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.errors import UserError

SHARD_BYTES = 64 * 2**20
MAX_SHARDS = 64


class ShardWriter:
    """Writes one split's images, in order, to ``folder/00000.arrow`` and so on.

    Holds at most one shard in memory. Shards are 64 MiB, or larger so that there are at most 64.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], num_images: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image_bytes = int(np.prod(shape))
        self._folder = folder
        self._rows_per_shard = max(SHARD_BYTES // image_bytes, -(-num_images // MAX_SHARDS), 1)
        self._schema = pa.schema(
            [
                pa.field("image", pa.binary(image_bytes), nullable=False),
                pa.field("label", pa.int32(), nullable=False),
                pa.field("path", pa.string(), nullable=False),
            ],
            metadata={"shape": json.dumps(shape)},
        )
        self._images: list[NDArray[np.uint8]] = []
        self._labels: list[int] = []
        self._paths: list[str] = []
        self._num_shards = 0

    def add(self, image: NDArray[np.uint8], label: int, path: str) -> None:
        """Appends one image, uint8 ``(height, width, channels)``."""
        self._images.append(image)
        self._labels.append(label)
        self._paths.append(path)
        if len(self._images) == self._rows_per_shard:
            self._flush()

    def _flush(self) -> None:
        if not self._images:
            return
        batch = pa.record_batch(
            [
                pa.FixedSizeBinaryArray.from_buffers(
                    self._schema.field("image").type,
                    len(self._images),
                    [None, pa.py_buffer(np.stack(self._images))],
                ),
                pa.array(self._labels, pa.int32()),
                pa.array(self._paths, pa.string()),
            ],
            schema=self._schema,
        )
        path = self._folder / f"{self._num_shards:05d}.arrow"
        with pa.ipc.new_file(path, self._schema) as writer:
            writer.write_batch(batch)
        self._num_shards += 1
        self._images, self._labels, self._paths = [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()


class Shards:
    """The images of one split, memory-mapped: reading costs page cache, not memory of ours."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.arrow"))
        if not files:
            raise UserError(f"{folder}: no shards here; run `dvc repro prepare`")
        shards = [_map(file) for file in files]
        self.shape = shards[0].shape
        """``(height, width, channels)``"""
        self.blocks = [shard.images for shard in shards]
        """uint8 ``(n, height, width, channels)`` a shard, read-only."""
        self.starts = np.cumsum([0, *(len(block) for block in self.blocks)])
        self.labels = np.concatenate([shard.labels for shard in shards])
        """int64 ``(num_images,)``, indices into the class names."""
        self._paths = [shard.paths for shard in shards]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> list[str]:
        """The source file of each image, relative to the collection's folder."""
        return [path for paths in self._paths for path in paths.to_pylist()]

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies the images at ``indices``, in that order: uint8 ``(n, height, width, channels)``."""
        if len(self.blocks) == 1:
            return self.blocks[0][indices]
        images = np.empty((len(indices), *self.shape), np.uint8)
        shard_of = np.searchsorted(self.starts, indices, side="right") - 1
        for shard in np.unique(shard_of):
            here = np.flatnonzero(shard_of == shard)
            images[here] = self.blocks[shard][indices[here] - self.starts[shard]]
        return images

    def evenly_spaced(self, count: int) -> NDArray[np.uint8]:
        """Copies ``count`` images (or all, if there are fewer), spread over the whole split.

        Returns:
            uint8 ``(n, channels, height, width)``, contiguous.
        """
        indices = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64)
        return np.ascontiguousarray(self.gather(indices).transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class _MappedShard:
    shape: tuple[int, int, int]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: pa.ChunkedArray


def _map(file: Path) -> _MappedShard:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        height, width, channels = json.loads(table.schema.metadata[b"shape"])
        pixels = table.column("image").chunk(0).buffers()[1]
        return _MappedShard(
            (height, width, channels),
            np.frombuffer(pixels, np.uint8).reshape(len(table), height, width, channels),
            table.column("label").to_numpy().astype(np.int64),
            table.column("path"),
        )
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: damaged ({error}); run `dvc repro --force prepare`") from None
