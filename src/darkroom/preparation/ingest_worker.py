"""What a worker process of ``ingest`` does with the files of a task.

Worker processes import this module, so it imports only what they need.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.collection.entries import Files
from darkroom.dataset.storage import Storage, pack_images
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import Header, PixelLayout, decode, read_header
from darkroom.decoding.reading import MAX_FILE_BYTES
from darkroom.decoding.watch import Watch
from darkroom.preparation.measures import HASH_BYTES, measure
from darkroom.preparation.segments import SCHEMA, SegmentIndex, write_segment

HEADER_BYTES = 64 * 1024
"""Nearly all headers are in this many first bytes; other files are read completely."""

_BINARY = pa.binary()

Places = list[tuple[str, int, int]]
"""Path, offset and size of files."""


@dataclass(frozen=True)
class HeaderReader:
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
class Ingest:
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


class _Row(NamedTuple):
    file_sha256: bytes | None
    outcome: str
    reason: str
    header: Header | None = None


_NO_IMAGE = Header(0, 0, "", "", False)


def _table(rows: list[_Row], images: list[NDArray[np.uint8]], storage: Storage) -> pa.Table:
    """Return rows as the columns of a segment; ``images`` belong to the rows with a header."""
    files, outcomes, reasons, headers = zip(*rows, strict=True)
    stacked = np.stack(images) if images else np.empty((0, 1, 1, 1), np.uint8)
    measured = measure(stacked)
    is_read = np.array([digest is not None for digest in files])
    is_used = np.array([header is not None for header in headers])
    every = np.ones(len(rows), bool)
    of_used = [header or _NO_IMAGE for header in headers]
    digests = b"".join(hashlib.sha256(image.data).digest() for image in images)
    columns = {
        "file_sha256": _fixed(np.frombuffer(b"".join(filter(None, files)), "V32"), is_read),
        "outcome": _texts(outcomes, every),
        "reason": _texts(reasons, every),
        "format": _texts([header.format for header in of_used], is_used),
        "mode": _texts([header.mode for header in of_used], is_used),
        "width": _fixed(np.array([header.width for header in of_used], np.int32)[is_used], is_used),
        "height": _fixed(np.array([header.height for header in of_used], np.int32)[is_used], is_used),
        "animated": _fixed(np.array([header.animated for header in of_used])[is_used], is_used),
        "pixel_sha256": _fixed(np.frombuffer(digests, "V32"), is_used),
        "hash": _binaries(measured.hashes, np.full(len(images), HASH_BYTES), is_used),
        "brightness": _fixed(measured.brightness, is_used),
        "sharpness": _fixed(measured.sharpness, is_used),
        "image": _binaries(*pack_images(stacked, storage), is_used),
    }
    return pa.table(columns, schema=SCHEMA)


# not pa.array, which imports pandas


def _texts(values: Sequence[str], is_valid: NDArray[np.bool_]) -> pa.Array:
    """Return a column of texts, of which the invalid ones, all empty, become null."""
    encoded = [value.encode() for value in values]
    sizes = np.array([len(text) for text in encoded])[is_valid]
    return _binaries(b"".join(encoded), sizes, is_valid, pa.string())


def _fixed(values: NDArray, is_valid: NDArray[np.bool_]) -> pa.Array:
    """Return a column of numbers, truth values or bytes of equal size (dtype V); null if not valid.

    Args:
        values: those of the valid rows.
    """
    spread = np.zeros(len(is_valid), values.dtype)
    spread[is_valid] = values
    is_bytes = values.dtype.kind == "V"
    kind = pa.binary(values.itemsize) if is_bytes else pa.from_numpy_dtype(values.dtype)
    data = np.packbits(spread, bitorder="little") if values.dtype == bool else spread.view(np.uint8)
    return pa.Array.from_buffers(kind, len(is_valid), [_bits(is_valid), pa.py_buffer(data)])


def _binaries(
    data: Any, sizes: NDArray[np.int64], is_valid: NDArray[np.bool_], kind: pa.DataType = _BINARY
) -> pa.Array:
    """Return a column without copying its bytes; null if not valid.

    Args:
        data: the bytes of all valid rows, one after the other.
        sizes: number of bytes of each valid row.
    """
    lengths = np.zeros(len(is_valid) + 1, np.int32)
    lengths[1:][is_valid] = sizes
    offsets = np.cumsum(lengths, dtype=np.int32)
    buffers = [_bits(is_valid), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(is_valid), buffers)


def _bits(is_valid: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(is_valid, bitorder="little"))
