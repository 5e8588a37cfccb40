"""What a worker process of ``ingest`` does with the files of a task.

Worker processes import this module, so it imports only what they need.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.collection.entries import Files, MaskFile
from darkroom.dataset.storage import Storage, pack_images
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.class_files import EncodedMask
from darkroom.decoding.decode import Header, PixelLayout, decode, read_header
from darkroom.decoding.reading import MAX_FILE_BYTES
from darkroom.decoding.watch import Watch
from darkroom.preparation.columns import binaries, fixed, texts
from darkroom.preparation.ingest_masks import Masks
from darkroom.preparation.measures import HASH_BYTES, measure
from darkroom.preparation.segments import MASK_SCHEMA, SCHEMA, SegmentIndex, write_segment

HEADER_BYTES = 64 * 1024
"""Nearly all headers are in this many first bytes; other files are read completely."""


class Place(NamedTuple):
    """Where an image is, and its mask, if there is one."""

    path: str
    offset: int
    size: int
    mask_files: tuple[MaskFile, ...] | None = None


Places = list[Place]


@dataclass(frozen=True)
class HeaderReader:
    """Reads headers in a worker process."""

    files: Files
    tiff: bool
    watch: Watch

    def __call__(self, places: Places) -> tuple[int, list[Header]]:
        headers = []
        for path, offset, size, *_ in places:
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
    masks: Masks | None = None

    def __call__(self, places: Places) -> tuple[NDArray[np.int64], str | None]:
        """Return the position of each file, -1 for files of the new segment, and its name."""
        positions = np.full(len(places), -1, np.int64)
        rows: list[_Row] = []
        images: list[NDArray[np.uint8]] = []
        masks: list[NDArray[np.uint8]] = []
        for index, place in enumerate(places):
            digest = key = None
            try:
                encoded = self._read(place.path, place.offset, place.size)
                digest = key = hashlib.sha256(encoded).digest()
                mask: list[EncodedMask] = []
                if self.masks is not None:
                    mask = [self._read_mask(file) for file in place.mask_files or ()]
                    key = self.masks.key(digest, mask)
                positions[index] = self.index.find(key)
                if positions[index] >= 0:
                    continue
                with self.watch.on(place.path):
                    header, pixels = decode(encoded, self.layout, self.tiff)
                if self.masks is not None:
                    with self.watch.on(" and ".join(file.path for file in mask)):
                        masks.append(self.masks.decode(mask, header))
            except BadImage as error:
                rows.append(_Row(digest, error.outcome, str(error), key=key))
            else:
                rows.append(_Row(digest, "used", "", header, key))
                images.append(pixels)
        if not rows:
            return positions, None
        columns, schema = _columns(rows, images, self.storage), SCHEMA
        if self.masks is not None:
            is_used = np.array([row.header is not None for row in rows])
            columns |= self.masks.columns([row.key for row in rows], masks, is_used)
            schema = MASK_SCHEMA
        return positions, write_segment(self.folder, pa.table(columns, schema=schema))

    def _read(self, path: str, offset: int, size: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            BadImage: it is too large or cannot be read.
        """
        if size > MAX_FILE_BYTES:
            raise BadImage("too large", f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        try:
            return self.files.read(path, offset, size)
        except FileNotFoundError as error:
            raise BadImage("missing", error.strerror or str(error)) from None
        except OSError as error:
            raise BadImage("unreadable", error.strerror or str(error)) from None

    def _read_mask(self, file: MaskFile) -> EncodedMask:
        try:
            return EncodedMask(file.path, file.value, self._read(file.path, file.offset, file.size))
        except BadImage as error:
            raise BadImage(error.outcome, f"mask: {error.reason}") from None


class _Row(NamedTuple):
    file_sha256: bytes | None
    outcome: str
    reason: str
    header: Header | None = None
    key: bytes | None = None
    """By which the row is found, if it has a mask."""


_NO_IMAGE = Header(0, 0, "", "", False)


def _columns(rows: list[_Row], images: list[NDArray[np.uint8]], storage: Storage) -> dict[str, pa.Array]:
    """Return rows as the columns of a segment; ``images`` belong to the rows with a header."""
    files, outcomes, reasons, headers, _ = zip(*rows, strict=True)
    stacked = np.stack(images) if images else np.empty((0, 1, 1, 1), np.uint8)
    measured = measure(stacked)
    is_read = np.array([digest is not None for digest in files])
    is_used = np.array([header is not None for header in headers])
    every = np.ones(len(rows), bool)
    of_used = [header or _NO_IMAGE for header in headers]
    digests = b"".join(hashlib.sha256(image.data).digest() for image in images)
    return {
        "file_sha256": fixed(np.frombuffer(b"".join(filter(None, files)), "V32"), is_read),
        "outcome": texts(outcomes, every),
        "reason": texts(reasons, every),
        "format": texts([header.format for header in of_used], is_used),
        "mode": texts([header.mode for header in of_used], is_used),
        "width": fixed(np.array([header.width for header in of_used], np.int32)[is_used], is_used),
        "height": fixed(np.array([header.height for header in of_used], np.int32)[is_used], is_used),
        "animated": fixed(np.array([header.animated for header in of_used])[is_used], is_used),
        "pixel_sha256": fixed(np.frombuffer(digests, "V32"), is_used),
        "hash": binaries(measured.hashes, np.full(len(images), HASH_BYTES), is_used),
        "brightness": fixed(measured.brightness, is_used),
        "sharpness": fixed(measured.sharpness, is_used),
        "image": binaries(*pack_images(stacked, storage), is_used),
    }
