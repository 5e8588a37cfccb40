"""Reads every file of a collection once, in worker processes, into segments of prepared images."""

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
"""Files a task: enough to hide the cost of handing it over, and few enough to hold their pixels."""

HEADER_BYTES = 64 * 1024
"""Nearly every header is in the beginning of its file; the others are read whole."""

SERIAL_FILES, SERIAL_BYTES = 2_000, 32 * 2**20
"""Collections below both are nearly done before worker processes have started."""

Advance = Callable[[int], None]
"""Told how many more images are done."""

Places = list[tuple[str, int, int]]
"""Path, offset and size of some files."""


@dataclass(frozen=True)
class IngestedImages:
    """What became of the files that were to be read, in the order of the collection."""

    segments: Segments
    positions: NDArray[np.int64]
    """Where each is in ``segments``."""

    def __len__(self) -> int:
        return len(self.positions)

    def facts(self, indices: NDArray[np.int64]) -> pa.Table:
        """Returns what is known of images but their pixels, in the columns of a segment."""
        return self.segments.facts(self.positions[indices])

    def stored(self, index: int) -> pa.Buffer:
        """Returns one image as it is stored, without copying."""
        return self.segments.stored_image(int(self.positions[index]))

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns uint8 ``(n, height, width, channels)``."""
        return self.segments.images(self.positions[indices])

    def remove_other_segments(self) -> None:
        """Removes from the cache what holds none of these images."""
        owners = np.unique(self.segments.owners(self.positions))
        remove_others(self.segments.folder, {self.segments.names[owner] for owner in owners})


def read_headers(collection: Collection, tiff: bool, workers: int, advance: Advance) -> Iterator[Header]:
    """Yields the headers of all files that have a readable one, in order."""
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
    """Decodes every file that an earlier run has not decoded already.

    Args:
        cache: folder of earlier segments, and of the new ones, in a folder of its own for each
            layout, storage and version of the decoder.

    Returns:
        One image for each entry of the collection that was to be read.
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
    """In a worker process: files to headers."""

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
    """In a worker process: files to a segment of those that no segment holds yet."""

    files: Files
    layout: PixelLayout
    storage: Storage
    tiff: bool
    folder: Path
    index: SegmentIndex
    watch: Watch

    def __call__(self, places: Places) -> tuple[NDArray[np.int64], str | None]:
        """Returns the position of each file, -1 for those of the new segment, and its name."""
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
    """Puts rows into the columns of a segment; ``images`` are those of the rows with a header."""
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
    """Makes a column of images without copying them; null where a row has none."""
    data, sizes = packed
    lengths = np.zeros(len(is_used) + 1, np.int32)
    lengths[1:][is_used] = sizes
    buffers = (np.packbits(is_used, bitorder="little"), np.cumsum(lengths, dtype=np.int32), data)
    return pa.Array.from_buffers(pa.binary(), len(is_used), [pa.py_buffer(part) for part in buffers])


def _tasks(collection: Collection, chunk_files: int, workers: int) -> tuple[Iterator[Places], int]:
    """Returns the files to read in chunks, and how many worker processes they are worth."""
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
    """Names what prepared pixels depend on beside the file: the layout, our code, the libraries."""
    decoding = Path(str(decode_module.__file__)).parent
    modules = (Path(str(module.__file__)) for module in (measures_module, storage_module))
    code = [path.read_bytes() for path in (*sorted(decoding.glob("*.py")), *modules)]
    parts = [repr((layout, storage, tiff, decoder_version(), SCHEMA)).encode(), *code]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
