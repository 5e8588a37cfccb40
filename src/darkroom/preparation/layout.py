"""The size and channels of the prepared images, which ``auto`` derives from the files' headers."""

import statistics
from array import array
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.config.prepare import Prepare
from darkroom.config.section import size_of
from darkroom.decoding.decode import Header, PixelLayout, Resize
from darkroom.errors import UserError
from darkroom.preparation.ingest import read_headers

LARGEST_AUTO_SIZE = 224
SMALLEST_AUTO_SIZE = 32
LEAST_SHARED_PERCENT = 95
"""Minimum percentage of images with the same shape for ``image_size: auto`` to keep it."""


def settle_layout(
    collection: Collection, options: Prepare, workers: int, advance: Callable[[int], None]
) -> PixelLayout:
    """Return the layout. Headers are read only if the layout depends on them."""
    if options.image_size != "auto" and options.channels != "auto":
        return PixelLayout(*size_of(options.image_size), options.channels, options.resize)
    headers = read_headers(collection, options.tiff, workers, advance)
    return choose_layout(headers, options.image_size, options.channels, options.resize)


def choose_layout(
    headers: Iterable[Header],
    image_size: Literal["auto"] | int | list[int],
    channels: Literal["auto", 1, 3],
    resize: Resize,
) -> PixelLayout:
    """Return the layout, with ``auto`` resolved as the descriptions of the parameters say.

    Raises:
        UserError: there are no headers.
    """
    packed = array("q")
    all_grey = True
    for header in headers:
        packed.append(header.height << 32 | header.width)
        all_grey = all_grey and header.is_grey
    if not packed:
        raise UserError("data.path: none of the files is a readable image")
    if image_size == "auto":
        height, width = _auto_shape(np.frombuffer(packed, np.int64))
    else:
        height, width = size_of(image_size)
    if channels == "auto":
        channels = 1 if all_grey else 3
    return PixelLayout(height, width, channels, resize)


def _auto_shape(packed: NDArray[np.int64]) -> tuple[int, int]:
    """Return the height and width for ``image_size: auto``.

    Args:
        packed: ``(num_images,)``, the height of each image times 2**32 plus its width.
    """
    shapes, counts = np.unique(packed, return_counts=True)
    height, width = divmod(int(shapes[counts.argmax()]), 2**32)
    is_shared = 100 * int(counts.max()) >= LEAST_SHARED_PERCENT * len(packed)
    if is_shared and max(height, width) <= LARGEST_AUTO_SIZE:
        return height, width
    median = statistics.median_low(np.minimum(packed >> 32, packed & 0xFFFFFFFF).tolist())
    side = min(max(median // 32 * 32, SMALLEST_AUTO_SIZE), LARGEST_AUTO_SIZE)
    return side, side
