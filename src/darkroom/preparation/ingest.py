"""Decodes every file of a collection once, in worker processes, into segments of prepared images."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.collection.entries import Files
from darkroom.dataset import storage as storage_module
from darkroom.dataset.storage import Storage, pack_images
from darkroom.decoding import decode as decode_module
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import Header, PixelLayout, decode, decoder_version, read_header
from darkroom.decoding.reading import MAX_FILE_BYTES
from darkroom.decoding.watch import Watch, watching
from darkroom.parallel import ordered_map
from darkroom.preparation import measures as measures_module
from darkroom.preparation.measures import measure
from darkroom.preparation.segments import SCHEMA, SegmentIndex, Segments, remove_others, write_segment

CHUNK_BYTES = 16 * 2**20
CHUNK_FILES = 256
"""Files per task: enough to hide its overhead, and few enough to hold their pixels in memory."""

HEADER_BYTES = 64 * 1024
"""Nearly all headers are in this many first bytes; other files are read completely."""

SERIAL_FILES, SERIAL_BYTES = 2_000, 32 * 2**20
"""Smaller collections are processed faster than worker processes start."""

Advance = Callable[[int], None]
"""Called with the number of further images that are done."""

Places = list[tuple[str, int, int]]
"""Path, offset and size of files."""


@dataclass(frozen=True)
class IngestedImages:
    """The result of reading files, in the order of the collection."""

    segments: Segments
    positions: NDArray[np.int64]
    """Position of each file in ``segments``."""

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

    def remove_other_segments(self) -> None:
        """Remove the segments of the cache that contain none of these files."""
        owners = np.unique(self.segments.owners(self.positions))
        remove_others(self.segments.folder, {self.segments.names[owner] for owner in owners})


def read_headers(collection: Collection, tiff: bool, workers: int, advance: Advance) -> Iterator[Header]:
    """Yield the readable headers of all files, in order."""
    with watching() as watch:
        reader = _HeaderReader(collection.files, tiff, watch)
        for num_files, headers in ordered_map(reader, *_tasks(collection, CHUNK_FILES, workers)):
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
    folder = cache / "segments" / _cache_key(layout, storage, tiff)
    chunk_files = max(1, min(CHUNK_FILES, CHUNK_BYTES // int(np.prod(layout.shape))))
    index = SegmentIndex(folder)
    names = list(index.names)
    next_position = len(index)
    positions = []
    with watching() as watch:
        worker = _Ingest(collection.files, layout, storage, tiff, folder, index, watch)
        for found, name in ordered_map(worker, *_tasks(collection, chunk_files, workers)):
            new = found < 0
            found[new] = np.arange(next_position, next_position + new.sum())
            if name is not None:
                names.append(name)
                next_position += int(new.sum())
            positions.append(found)
            advance(len(found))
    return IngestedImages(Segments(folder, names, layout.shape, storage), np.concatenate(positions))


@dataclass(frozen=True)
class _HeaderReader:
    """Reads headers in a worker process."""

    files: Files
    tiff: bool
    watch: Watch

    def __call__(self, places: Places) -> tuple[int, list[Header]]:
        headers = []
        for path, offset, size in places:
            for num_bytes in sorted({min(size, HEADER_BYTES), min(size, MAX_FILE_BYTES)}):
                try:
                    with self.watch.on(path):
                        headers.append(read_header(self.files.read(path, offset, num_bytes), self.tiff))
                    break
                except BadImage:
                    continue
                except OSError:
                    break
        return len(places), headers


@dataclass(frozen=True)
class _Ingest:
    """Decodes the files that are in no segment yet, in a worker process, and writes a segment."""

    files: Files
    layout: PixelLayout
    storage: Storage
    tiff: bool
    folder: Path
    index: SegmentIndex
    watch: Watch

    def __call__(self, places: Places) -> tuple[NDArray[np.int64], str | None]:
        """Return the position of each file, -1 for files of the new segment, and its name."""
        positions = np.full(len(places), -1, np.int64)
        rows: list[_Row] = []
        images: list[NDArray[np.uint8]] = []
        for index, (path, offset, size) in enumerate(places):
            if size > MAX_FILE_BYTES:
                rows.append(
                    _Row(None, "too large", f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
                )
                continue
            try:
                encoded = self.files.read(path, offset, size)
            except OSError as error:
                outcome = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
                rows.append(_Row(None, outcome, error.strerror or str(error)))
                continue
            digest = hashlib.sha256(encoded).digest()
            positions[index] = self.index.find(digest)
            if positions[index] >= 0:
                continue
            try:
                with self.watch.on(path):
                    header, pixels = decode(encoded, self.layout, self.tiff)
            except BadImage as error:
                rows.append(_Row(digest, error.outcome, str(error)))
            else:
                rows.append(_Row(digest, "used", "", header))
                images.append(pixels)
        if not rows:
            return positions, None
        return positions, write_segment(self.folder, _table(rows, images, self.storage))


_HEADER = [field.name for field in fields(Header)]


class _Row(NamedTuple):
    file_sha256: bytes | None
    outcome: str
    reason: str
    header: Header | None = None


def _table(rows: list[_Row], images: list[NDArray[np.uint8]], storage: Storage) -> pa.Table:
    """Return rows as the columns of a segment; ``images`` belong to the rows with a header."""
    files, outcomes, reasons, headers = zip(*rows, strict=True)
    columns: dict[str, Sequence] = {"file_sha256": files, "outcome": outcomes, "reason": reasons}
    columns |= {name: [getattr(header, name, None) for header in headers] for name in _HEADER}
    stacked = np.stack(images) if images else np.empty((0, 1, 1, 1), np.uint8)
    measured = measure(stacked)
    of_images: dict[str, Iterable] = {
        "pixel_sha256": (hashlib.sha256(image.data).digest() for image in images),
        "hash": (hash_.tobytes() for hash_ in measured.hashes),
        "brightness": measured.brightness.tolist(),
        "sharpness": measured.sharpness.tolist(),
    }
    for name, values in of_images.items():
        remaining = iter(values)
        columns[name] = [None if header is None else next(remaining) for header in headers]
    is_used = np.array([header is not None for header in headers])
    columns["image"] = _binaries(pack_images(stacked, storage), is_used)
    return pa.table(columns, schema=SCHEMA)


def _binaries(packed: tuple[Any, NDArray[np.int64]], is_used: NDArray[np.bool_]) -> pa.Array:
    """Return a column of images without copying them; null for rows without image."""
    data, sizes = packed
    lengths = np.zeros(len(is_used) + 1, np.int32)
    lengths[1:][is_used] = sizes
    buffers = (np.packbits(is_used, bitorder="little"), np.cumsum(lengths, dtype=np.int32), data)
    return pa.Array.from_buffers(pa.binary(), len(is_used), [pa.py_buffer(part) for part in buffers])


def _tasks(collection: Collection, chunk_files: int, workers: int) -> tuple[Iterator[Places], int]:
    """Return the files to read in chunks, and the number of worker processes to use."""
    table = collection.table.select(["path", "offset", "size", "outcome"])
    small = len(table) < SERIAL_FILES and pc.sum(table["size"]).as_py() < SERIAL_BYTES

    def chunks() -> Iterator[Places]:
        for batch in table.to_batches():
            to_read = batch.filter(pc.is_null(batch["outcome"])).drop_columns("outcome")
            for start in range(0, len(to_read), chunk_files):
                columns = to_read.slice(start, chunk_files).to_pydict().values()
                yield list(zip(*columns, strict=True))

    return chunks(), 1 if small else workers


def _cache_key(layout: PixelLayout, storage: Storage, tiff: bool) -> str:
    """Return a key for everything that pixels depend on besides the file: layout, code, libraries."""
    decoding = Path(str(decode_module.__file__)).parent
    modules = (Path(str(module.__file__)) for module in (measures_module, storage_module))
    code = [path.read_bytes() for path in (*sorted(decoding.glob("*.py")), *modules)]
    parts = [repr((layout, storage, tiff, decoder_version(), SCHEMA)).encode(), *code]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
