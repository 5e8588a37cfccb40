"""Decodes every file of a collection once, in worker processes, into segments of prepared images."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.collection.entry_table import BATCH, unpack_mask_files
from darkroom.dataset import storage as storage_module
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage
from darkroom.decoding import decode as decode_module
from darkroom.decoding.decode import Header, PixelLayout, decoder_version
from darkroom.decoding.watch import watching
from darkroom.inputs import Input
from darkroom.parallel import Result, context_with, ordered_map
from darkroom.preparation import ingest_worker
from darkroom.preparation import measures as measures_module
from darkroom.preparation.ingest_masks import Masks
from darkroom.preparation.ingest_worker import HeaderReader, Ingest, Place, Places
from darkroom.preparation.segments import MASK_SCHEMA, SCHEMA, SegmentIndex, Segments, remove_others
from darkroom.preparation.statistics import channel_histogram, mean_and_std

CHUNK_BYTES = 16 * 2**20
CHUNK_FILES = 256
"""Files per task: enough to hide its overhead, and few enough to hold their pixels in memory."""

SERIAL_FILES, SERIAL_BYTES = 2_000, 32 * 2**20
"""Smaller collections are processed faster than worker processes start."""

Advance = Callable[[int], None]
"""Called with the number of further images that are done."""


@dataclass(frozen=True)
class IngestedMasks:
    """The masks of images, in the order of the collection."""

    segments: Segments
    positions: NDArray[np.int64]
    """Position of each image in ``segments``."""

    def labels(self) -> pa.Array:
        """Return the sorted labels of the images, which name the classes that the masks show."""
        parts = np.array_split(self.positions, max(-(-len(self.positions) // BATCH), 1))
        return pc.unique(pa.chunked_array([self._labels(part) for part in parts])).sort()

    def _labels(self, positions: NDArray[np.int64]) -> pa.Array:
        labels = self.segments.facts(positions)["label"].combine_chunks()
        return labels.drop_null().unique()

    def stored(self, index: int) -> pa.Buffer:
        """Return one mask as stored, without a copy."""
        return self.segments.stored_mask(int(self.positions[index]))

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return one mask: uint8 ``(height, width)``."""
        return self.segments.mask(int(self.positions[index]))


@dataclass(frozen=True)
class IngestedImages:
    """The result of reading files, in the order of the collection."""

    segments: Segments
    positions: NDArray[np.int64]
    """Position of each file in ``segments``."""
    layout: PixelLayout
    storage: Storage
    masks: IngestedMasks | None = None
    input: Input = "image"

    def __len__(self) -> int:
        return len(self.positions)

    def facts(self, indices: NDArray[np.int64]) -> pa.Table:
        """Return all columns of a segment except the pixels."""
        return self.segments.facts(self.positions[indices])

    def stored(self, index: int) -> pa.Buffer:
        """Return one image as stored, without a copy."""
        return self.segments.stored_image(int(self.positions[index]))

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``indices``: uint8 ``(n, height, width, channels)``."""
        return self.segments.images(self.positions[indices])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.layout.shape

    def content(self, is_train: NDArray[np.bool_]) -> Self:
        return self

    def facts_of(self, train: Shards) -> dict[str, Any]:
        """Return the layout, and the mean and standard deviation of the training pixels."""
        mean, std = mean_and_std(channel_histogram(train))
        return {
            "input_size": (self.layout.height, self.layout.width),
            "channels": self.layout.channels,
            "resize": self.layout.resize,
            "mean": mean,
            "std": std,
        }

    def remove_other_segments(self) -> None:
        """Remove the segments of the cache that contain none of these files."""
        owners = np.unique(self.segments.owners(self.positions))
        remove_others(self.segments.folder, {self.segments.names[owner] for owner in owners})


def start_readers(collection: Collection, workers: int) -> None:
    """Start what takes time before worker processes can read a collection, if it is read by several."""
    if collection.rows_of is None and _num_workers(collection, workers) > 1:
        _context()


def read_headers(collection: Collection, tiff: bool, workers: int, advance: Advance) -> Iterator[Header]:
    """Yield the readable headers of all files, in order."""
    with watching() as watch:
        reader = HeaderReader(collection.files, tiff, watch)
        for num_files, headers in _map(reader, collection, CHUNK_FILES, workers):
            advance(num_files)
            yield from headers


def ingest(
    collection: Collection,
    layout: PixelLayout,
    storage: Storage,
    tiff: bool,
    cache: Path,
    workers: int,
    advance: Advance,
) -> IngestedImages:
    """Decode every file that no earlier run has decoded.

    Args:
        cache: folder for segments, with one folder per layout, storage and version of the decoder.

    Returns:
        The result for each entry of the collection to be read.
    """
    classes = collection.mask_classes
    masks = None if classes is None else Masks(classes, layout, storage)
    schema = SCHEMA if masks is None else MASK_SCHEMA
    folder = cache / "segments" / _cache_key(layout, storage, tiff, masks)
    chunk_files = max(1, min(CHUNK_FILES, CHUNK_BYTES // int(np.prod(layout.shape))))
    index = SegmentIndex(folder)
    names = list(index.names)
    next_position = len(index)
    positions = []
    with watching() as watch:
        worker = Ingest(collection.files, layout, storage, tiff, folder, index, watch, masks)
        for found, name in _map(worker, collection, chunk_files, workers):
            new = found < 0
            found[new] = np.arange(next_position, next_position + new.sum())
            if name is not None:
                names.append(name)
                next_position += int(new.sum())
            positions.append(found)
            advance(len(found))
    segments = Segments(folder, names, layout.shape, storage, schema)
    found_at = np.concatenate(positions)
    ingested = None if masks is None else IngestedMasks(segments, found_at)
    return IngestedImages(segments, found_at, layout, storage, ingested)


def _map(
    function: Callable[[Places], Result], collection: Collection, chunk_files: int, workers: int
) -> Iterator[Result]:
    """Yield what ``function`` returns for each chunk of the files to read."""
    table = collection.table.select([*Place._fields, "outcome"])

    def chunks() -> Iterator[Places]:
        for batch in table.to_batches():
            to_read = batch.filter(pc.is_null(batch["outcome"])).drop_columns("outcome")
            for start in range(0, len(to_read), chunk_files):
                columns = to_read.slice(start, chunk_files).to_pydict().values()
                yield [
                    Place(path, offset, size, unpack_mask_files(files))
                    for path, offset, size, files in zip(*columns, strict=True)
                ]

    num_workers = _num_workers(collection, workers)
    context = _context() if num_workers > 1 else None
    return ordered_map(function, chunks(), num_workers, context=context)


def _num_workers(collection: Collection, workers: int) -> int:
    table = collection.table
    is_small = len(table) < SERIAL_FILES and pc.sum(table["size"]).as_py() < SERIAL_BYTES
    return 1 if is_small else workers


def _context() -> BaseContext:
    return context_with(ingest_worker.__name__)


def _cache_key(layout: PixelLayout, storage: Storage, tiff: bool, masks: Masks | None) -> str:
    """Return a key for everything that pixels depend on besides the file: layout, code, libraries."""
    decoding = Path(str(decode_module.__file__)).parent
    modules = (Path(str(module.__file__)) for module in (measures_module, storage_module))
    code = [path.read_bytes() for path in (*sorted(decoding.glob("*.py")), *modules)]
    parts = [repr((layout, storage, tiff, decoder_version(), SCHEMA, masks)).encode(), *code]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
