"""One shard, memory-mapped and checked; see ``dataset/shards.py``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.pixels import Pixels, damaged, map_pixels
from darkroom.dataset.storage import Storage
from darkroom.dataset.targets.interface import stored_target
from darkroom.inputs import Input
from darkroom.targets import Target, target_of_columns


@dataclass(frozen=True)
class Block:
    """One record batch of a shard."""

    images: Pixels
    masks: Pixels | None
    labels: NDArray[Any]
    """Like ``Shards.labels``."""
    paths: pa.Array
    weights: NDArray[np.float64] | None


@dataclass(frozen=True)
class MappedShard:
    """One shard of a split."""

    shape: tuple[int, int, int]
    storage: Storage
    is_weighted: bool
    target: Target
    input_: Input
    num_classes: int | None
    """Number of classes, if the column of labels needs it."""
    blocks: list[Block]

    @property
    def kind(self) -> tuple[object, ...]:
        """The properties that all shards of a split share."""
        return self.shape, self.storage, self.is_weighted, self.target, self.input_, self.num_classes


def map_shard(file: Path, num_threads: int | None, num_labelled: int | None) -> MappedShard:
    """Map a shard and check its structure, labels and weights.

    Args:
        num_labelled: number of classes to check labels against; None: not checked.

    Raises:
        UserError: the shard is damaged.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        height, width, channels = json.loads(reader.schema.metadata[b"shape"])
        shape = (height, width, channels)
        is_decoded = reader.schema.metadata[b"storage"] == b"decoded"
        num_classes = json.loads(reader.schema.metadata.get(b"num_classes", b"null"))
        input_: Input = "row" if reader.schema.metadata.get(b"input") == b"row" else "image"
        is_weighted = "weight" in reader.schema.names
        target = target_of_columns(reader.schema.names)
        kind = stored_target(target)
        storage: Storage = "decoded" if is_decoded else "encoded"

        def block(batch: pa.RecordBatch) -> Block:
            batch.validate(full=True)  # offsets are inside their buffers, and text is UTF-8
            masks = None
            if kind.has_masks:
                masks = map_pixels(batch["mask"], (height, width, 1), storage, file, num_threads)
            return Block(
                map_pixels(batch["image"], shape, storage, file, num_threads),
                masks,
                kind.read(batch, num_classes, num_labelled),
                batch["path"],
                _weights(batch) if is_weighted else None,
            )

        blocks = [block(reader.get_batch(index)) for index in range(reader.num_record_batches)]
        if not sum(len(block.labels) for block in blocks):
            raise ValueError("no images")
        return MappedShard(shape, storage, is_weighted, target, input_, num_classes, blocks)
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
