"""Write the images of one split as shards; see ``dataset/shards.py``."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from darkroom.dataset.pixels import DTYPES, PixelWriter
from darkroom.dataset.storage import Storage
from darkroom.dataset.targets.interface import stored_target
from darkroom.digests import FileDigest, HashingFile
from darkroom.inputs import Input
from darkroom.targets import Target

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
        input_: whether there are images, or rows of a table, whose shape is ``(1, 1, num_values)``.
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
        input_: Input = "image",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image_bytes = int(np.prod(shape)) * np.dtype(DTYPES[input_]).itemsize
        self._folder = folder
        self._rows_per_shard = max(SHARD_BYTES // image_bytes, -(-num_images // MAX_SHARDS), 1)
        self._rows_per_batch = max(BATCH_BYTES // image_bytes, 1)
        kind = stored_target(target)
        self._pixels = {"image": PixelWriter(image_bytes, storage)}
        if kind.has_masks:
            self._pixels["mask"] = PixelWriter(shape[0] * shape[1], storage)
        metadata = {"shape": json.dumps(shape), "storage": storage, **kind.metadata(num_classes)}
        metadata |= {} if input_ == "image" else {"input": input_}
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
