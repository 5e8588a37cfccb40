"""Matrices on disk, written in chunks that are verified by their checksums before they are used.

A matrix has a folder with two files: ``rows.npy``, and ``chunks.txt``, to which the SHA-256 of a chunk
is appended once the chunk is written. A chunk without a line, or with other bytes than its line says,
is missing. A kill therefore loses one chunk. Two processes that write the same matrix write the same
bytes. A removed matrix stays usable for processes that have opened it.
"""

import hashlib
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.loading.placement import Features
from darkroom.paths import FEATURES
from darkroom.runtime import Runtime

_NUMBER_BYTES = 4


class Matrix:
    """A float32 matrix on disk, some of whose chunks may be missing.

    Args:
        folder: of this matrix alone; created if it does not exist.
        chunk_rows: number of rows of each chunk but the last.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], chunk_rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.npy"
        self._shape, self._chunk_rows = shape, chunk_rows
        self._header = _npy_header(shape)
        self._size = len(self._header) + shape[0] * self._row_bytes
        self._file = open(self.path, "r+b" if self.path.exists() else "w+b", buffering=0)  # noqa: SIM115
        self._log = open(folder / "chunks.txt", "a+b", buffering=0)  # noqa: SIM115
        self._allocate()
        self.num_damaged = 0
        """Number of chunks that were written, and had other bytes when this object was made."""
        self.missing = self._find_missing()
        """The first row of each missing chunk."""

    @property
    def _row_bytes(self) -> int:
        return self._shape[1] * _NUMBER_BYTES

    def stop(self, start: int) -> int:
        """Return the end of the chunk that begins with row ``start``."""
        return min(start + self._chunk_rows, self._shape[0])

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write the chunk that begins with row ``start``."""
        content = rows.astype(np.float32, order="C", copy=False).tobytes()
        assert len(content) == (self.stop(start) - start) * self._row_bytes
        view, offset = memoryview(content), self._offset(start)
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written
        # no flush: after a loss of power, the checksum tells whether the rows have arrived
        self._log.write(f"{start} {hashlib.sha256(content).hexdigest()}\n".encode())

    def rows(self) -> Features:
        """Return the whole matrix, memory-mapped and read-only; all chunks must have been written."""
        rows = np.memmap(self._file, np.float32, "r", len(self._header), self._shape)
        self._file.close()
        self._log.close()
        return np.asarray(rows)

    def _offset(self, row: int) -> int:
        return len(self._header) + row * self._row_bytes

    def _allocate(self) -> None:
        """Reserve the whole file, so that a full disk is noticed before anything is computed."""
        try:
            if os.fstat(self._file.fileno()).st_size != self._size:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._file.fileno(), 0, self._size)
                os.ftruncate(self._file.fileno(), self._size)
            os.pwrite(self._file.fileno(), self._header, 0)
        except OSError as error:  # without a name
            self._file.close()
            self._log.close()
            self.path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, f"{self.path}") from None

    def _find_missing(self) -> list[int]:
        self._log.seek(0)
        lines = [line.split() for line in self._log.read().decode("ascii", "replace").splitlines()]
        digests = {line[0]: line[1] for line in lines if len(line) == 2}
        starts = range(0, self._shape[0], self._chunk_rows)
        written = [start for start in starts if f"{start}" in digests]

        def is_intact(start: int) -> bool:
            num_bytes = (self.stop(start) - start) * self._row_bytes
            content = os.pread(self._file.fileno(), num_bytes, self._offset(start))
            return hashlib.sha256(content).hexdigest() == digests[f"{start}"]

        with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter's lock
            intact = {
                start
                for start, is_ok in zip(written, pool.map(is_intact, written), strict=True)
                if is_ok
            }
        self.num_damaged = len(written) - len(intact)
        return [start for start in starts if start not in intact]


class Store:
    """A folder of matrices by key, of bounded size.

    Args:
        max_bytes: the least recently used matrices are removed to stay below this size. Those that this
            object has opened are kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._opened: set[str] = set()

    def open(self, key: str, shape: tuple[int, int], chunk_rows: int) -> Matrix:
        """Open the matrix called ``key``; all of its chunks are missing if it is new.

        Raises:
            OSError: see ``Matrix``.
        """
        self._opened.add(key)
        self._make_room(shape[0] * shape[1] * _NUMBER_BYTES)
        matrix = Matrix(self._folder / key, shape, chunk_rows)
        os.utime(self._folder / key)  # used now
        return matrix

    def _make_room(self, num_bytes: int) -> None:
        others = []
        for folder in self._folder.glob("*/"):
            try:
                size = sum(file.stat().st_size for file in folder.iterdir())
                if folder.name in self._opened:
                    num_bytes += size
                else:
                    others.append((folder.stat().st_mtime, size, folder))
            except FileNotFoundError:  # another process has removed it
                continue
        num_bytes += sum(size for _, size, _ in others)
        for _, size, folder in sorted(others):
            if num_bytes <= self._max_bytes:
                return
            shutil.rmtree(folder, ignore_errors=True)
            num_bytes -= size


def open_store(runtime: Runtime) -> Store:
    """Return the store of this project, of the size that the settings allow."""
    return Store(FEATURES, runtime.features_gib * 2**30)


def _npy_header(shape: tuple[int, int]) -> bytes:
    """Return the first bytes of a .npy file; their number is a multiple of 64."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return header.getvalue()
