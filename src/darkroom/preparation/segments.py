"""A cache of decoded images by the content of their files, outside of DVC's outputs.

A segment is an Arrow IPC file for some hundred files, with the outcome, the measurements and the
prepared pixels of each. Segments are written atomically, so a run after a kill reuses what was finished,
and if a collection grows only the new files are decoded. The folder can be deleted at any time.
"""

import io
import os
import shutil
import sys
import zlib
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.storage import Storage, unpack_image
from darkroom.whole_files import save_array

SCHEMA = pa.schema(
    [
        ("file_sha256", pa.binary(32)),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("animated", pa.bool_()),
        ("pixel_sha256", pa.binary(32)),
        ("hash", pa.binary()),
        ("brightness", pa.float64()),
        ("sharpness", pa.float64()),
        ("image", pa.binary()),
    ]
)
"""One row per file. ``image`` is stored as in shards. The image and its measurements are null if the
file cannot be used."""

MASK_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("key", pa.binary(32)),
        ("label", pa.string()),
        ("mask_sha256", pa.binary(32)),
        ("num_void", pa.int32()),
        ("mask", pa.binary()),
    ]
)
"""For images with masks: ``key`` is a digest of both files, ``label`` names the classes that the
prepared mask shows, ``num_void`` counts its pixels without class, and ``mask`` is stored as ``image``
is."""


_PIXELS = frozenset({"image", "mask"})


def facts_of(schema: pa.Schema) -> list[str]:
    """Return the names of all columns except those with pixels."""
    return [name for name in schema.names if name not in _PIXELS]


FACTS = facts_of(SCHEMA)


def write_segment(folder: Path, rows: pa.Table) -> str:
    """Write a segment atomically and return its name, which contains the checksum of its bytes."""
    part = folder / f"{os.getpid()}.part"
    with part.open("wb", buffering=0) as file:
        sink = _Checksummed(file)
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
    name = _name(sink.checksum, part.stat().st_size)
    part.replace(folder / name)
    return name


class _Checksummed(io.RawIOBase):
    """Writes all bytes to a file and computes their checksum."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self.checksum = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self._file.write(data) or 0

    def tell(self) -> int:
        return self._file.tell()


class Segments:
    """The rows of several segments, memory-mapped. Positions count the rows of all segments."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        shape: tuple[int, int, int],
        storage: Storage,
        schema: pa.Schema = SCHEMA,
    ) -> None:
        self.folder = folder
        self.names = list(names)
        self._tables = [_open(folder / name) for name in names]
        self._shape = shape
        self._storage = storage
        self._schema = schema
        self.starts = np.cumsum([0, *(len(table) for table in self._tables)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def owners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index in ``names`` of the segment at each position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def facts(self, positions: NDArray[np.int64]) -> pa.Table:
        """Return the rows at ``positions``, in that order, with all columns except pixels."""
        owners = self.owners(positions)
        names = facts_of(self._schema)
        pieces = [self._schema.empty_table().select(names)]
        for owner in np.unique(owners):
            rows = positions[owners == owner] - self.starts[owner]
            pieces.append(self._tables[owner].select(names).take(rows))
        gathered = np.argsort(owners, kind="stable")
        return pa.concat_tables(pieces).take(np.argsort(gathered))

    def stored_image(self, position: int) -> pa.Buffer:
        """Return an image as stored, without a copy."""
        return self._stored("image", position)

    def stored_mask(self, position: int) -> pa.Buffer:
        """Return a mask as stored, without a copy."""
        return self._stored("mask", position)

    def _stored(self, column: str, position: int) -> pa.Buffer:
        owner = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self._tables[owner].column(column)[position - int(self.starts[owner])].as_buffer()

    def mask(self, position: int) -> NDArray[np.uint8]:
        """Return a mask: uint8 ``(height, width)``."""
        shape = (*self._shape[:2], 1)
        return unpack_image(self.stored_mask(position), shape, self._storage)[..., 0]

    def images(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``positions``: uint8 ``(n, height, width, channels)``."""
        images = np.empty((len(positions), *self._shape), np.uint8)
        for image, position in zip(images, positions.tolist(), strict=True):
            image[:] = unpack_image(self.stored_image(position), self._shape, self._storage)
        return images


class SegmentIndex:
    """Finds files that earlier runs have decoded. It is cheap to pickle: its tables are on disk."""

    def __init__(self, folder: Path) -> None:
        """Index the segments in ``folder``.

        A segment whose bytes do not match the checksum in its name is removed, because Arrow may crash
        on a damaged file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)
        self._folder = folder
        self.names: list[str] = []
        prefixes = [np.empty(0, np.uint64)]
        paths = sorted(folder.glob("*.arrow"))
        with ThreadPoolExecutor() as pool:  # zlib releases the interpreter's lock
            are_intact = list(pool.map(_is_intact, paths))
        for path, is_intact in zip(paths, are_intact, strict=True):
            if is_intact:
                prefixes.append(_prefixes(_open(path)))
                self.names.append(path.name)
            else:
                print(f"{path}: damaged; its images are decoded again", file=sys.stderr)
                path.unlink()
        self._starts = np.cumsum([len(part) for part in prefixes])
        joined = np.concatenate(prefixes)
        order = np.argsort(joined, kind="stable")
        save_array(joined[order], folder / "prefixes.npy")
        save_array(order, folder / "positions.npy")
        self._tables: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        prefixes, positions = (
            np.load(self._folder / f"{name}.npy", mmap_mode="r") for name in ("prefixes", "positions")
        )
        return prefixes, positions

    def find(self, digest: bytes) -> int:
        """Return the position of the file with this SHA-256, or of files with this key, or -1."""
        if not len(self):
            return -1
        prefixes, positions = self._sorted
        prefix = np.frombuffer(digest[:8], np.uint64)[0]
        place = int(np.searchsorted(prefixes, prefix))
        if place == len(prefixes) or prefixes[place] != prefix:
            return -1
        position = int(positions[place])
        owner = int(np.searchsorted(self._starts, position, side="right")) - 1
        if owner not in self._tables:
            self._tables[owner] = _open(self._folder / self.names[owner])
        digests = _keys(self._tables[owner])
        return position if digests[position - int(self._starts[owner])].as_py() == digest else -1


def remove_others(folder: Path, used: Container[str]) -> None:
    """Remove the segments that are not in ``used``, and those of other layouts.

    This keeps the cache about as small as the current collection.
    """
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    for path in folder.glob("*.arrow"):
        if path.name not in used:
            path.unlink(missing_ok=True)


def _open(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _name(checksum: int, num_bytes: int) -> str:
    return f"{checksum:08x}-{num_bytes}.arrow"


def _is_intact(path: Path) -> bool:
    try:
        content = pa.memory_map(str(path)).read_buffer()
        return path.name == _name(zlib.crc32(content), len(content))
    except (pa.ArrowException, OSError):
        return False


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return table.column("key" if "key" in table.column_names else "file_sha256")


def _prefixes(table: pa.Table) -> NDArray[np.uint64]:
    """Return the first eight bytes of the digest of each file; zeros if there is none."""
    digests = (digest or bytes(32) for digest in _keys(table).to_pylist())
    return np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
