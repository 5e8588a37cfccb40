"""Pixels in the columns of shards: images, and masks, which are images of one channel."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.dataset.storage import Storage, unpack_image
from darkroom.errors import UserError, brief

LEAST_BYTES_FOR_THREADS = 16 * 2**10
"""Minimum size of an image for which several threads decode faster than one."""

Shape = tuple[int, int, int]
"""Height, width and channels of each image of a column."""


class PixelWriter:
    """Collects the images of a record batch in memory."""

    def __init__(self, shape: Shape, storage: Storage) -> None:
        fixed = pa.binary(int(np.prod(shape)))
        self.type = fixed if storage == "decoded" else pa.large_binary()
        self.clear()

    def clear(self) -> None:
        self._bytes = bytearray()
        self._ends = [0]

    def add(self, image: Any) -> None:
        """Append the result of ``pack_image`` in any contiguous buffer: bytes or an array."""
        self._bytes += memoryview(image).cast("B")
        self._ends.append(len(self._bytes))

    def array(self) -> pa.Array:
        """Return the column."""
        is_fixed = pa.types.is_fixed_size_binary(self.type)
        ends = [] if is_fixed else [pa.py_buffer(np.array(self._ends))]
        buffers = [None, *ends, pa.py_buffer(self._bytes)]
        return pa.Array.from_buffers(self.type, len(self._ends) - 1, buffers)


@dataclass(frozen=True)
class DecodedPixels:
    """A column of a record batch with plain pixels."""

    rows: NDArray[np.uint8]
    """uint8 ``(n, bytes of an image)``, read-only."""

    def gather(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        # with mode="raise", the default, numpy would fill a copy of out first
        np.take(self.rows, indices, axis=0, out=out.reshape(-1, self.rows.shape[1]), mode="clip")


@dataclass(frozen=True)
class EncodedPixels:
    """A column of a record batch with encoded images."""

    stored: memoryview
    ends: NDArray[np.int64]
    """int64 ``(n + 1,)``: image ``i`` lies between ``ends[i]`` and ``ends[i + 1]``."""
    shape: Shape
    file: Path
    num_threads: int | None

    def gather(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        # for small images, the time without the interpreter's lock is too short
        if self.num_threads == 1 or out[:1].nbytes < LEAST_BYTES_FOR_THREADS:
            for index, image in zip(indices.tolist(), out, strict=True):
                self._decode(index, image)
        else:
            list(_decoders(self.num_threads).map(self._decode, indices.tolist(), out))

    def _decode(self, index: int, out: NDArray[np.uint8]) -> None:
        try:
            stored = self.stored[self.ends[index] : self.ends[index + 1]]
            out[...] = unpack_image(stored, self.shape, "encoded")
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise damaged(self.file, error) from None


Pixels = DecodedPixels | EncodedPixels


@cache
def _decoders(num_threads: int | None) -> ThreadPoolExecutor:
    """Return threads that all shards share. Pillow's decoders release the interpreter's lock."""
    return ThreadPoolExecutor(num_threads)


def map_pixels(
    column: pa.Array, shape: Shape, storage: Storage, file: Path, num_threads: int | None
) -> Pixels:
    """Return a column of a memory-mapped record batch, without a copy.

    Args:
        file: for messages.
        num_threads: number of threads that decode; None: the number of cores.
    """
    if storage == "decoded":
        pixels = np.frombuffer(column.buffers()[1], np.uint8)
        return DecodedPixels(pixels.reshape(len(column), int(np.prod(shape))))
    ends = np.frombuffer(column.buffers()[1], np.int64)
    return EncodedPixels(memoryview(column.buffers()[2]), ends, shape, file, num_threads)


def gather_pixels(
    columns: Sequence[Pixels],
    starts: NDArray[np.int64],
    indices: NDArray[np.int64],
    images: NDArray[np.uint8],
) -> None:
    """Copy the images at ``indices`` of several record batches into ``images``.

    Args:
        starts: int64 ``(num_batches + 1,)``: the first image of each batch, and their number.
        images: uint8 ``(len(indices), height, width, channels)``, contiguous.
    """
    if len(columns) == 1:
        columns[0].gather(indices, images)
        return
    owner = np.searchsorted(starts, indices, side="right") - 1
    for number in np.unique(owner):
        here = np.flatnonzero(owner == number)
        part = np.empty((len(here), *images.shape[1:]), np.uint8)
        columns[number].gather(indices[here] - starts[number], part)
        images[here] = part


@dataclass(frozen=True)
class Masks:
    """The masks of a split, which are read like its images."""

    shape: Shape
    """``(height, width, 1)``, as large as the images."""
    storage: Storage
    num_images: int
    gather: Callable[[NDArray[np.int64], NDArray[np.uint8] | None], NDArray[np.uint8]]
    """Copies the masks at some indices, as ``Shards.gather`` copies images: uint8
    ``(n, height, width, 1)``, the class of each pixel or ``VOID``."""

    def __len__(self) -> int:
        return self.num_images


def damaged(file: Path, problem: Exception | str) -> UserError:
    return UserError(f"{file}: damaged ({brief(problem)}); run `dvc repro --force prepare`")
