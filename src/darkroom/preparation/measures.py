"""Measures each image while it is decoded: perceptual hash, brightness and sharpness.

Only integers are summed, and floats are divided, multiplied and rooted one by one, so that the same
pixels give the same bits on every machine.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 12

LEVEL = 16
"""Cell means are multiples of 1/16 of a grey level."""

_GRID = 16  # maximum number of cells per side for the hash
_FREQUENCIES = tuple((u, v) for u in range(4) for v in range(4) if 0 < u * u + v * v <= 9)  # ten
_COSINE_ONE = 1024
_FINE = 2**8  # resolution of amplitudes, in units of cell means
_LEAST_STRENGTH = 16  # grey levels; a lower value would amplify the noise of nearly flat images
_MIDDLE = 128  # of a byte
_BLOCK_PIXELS = 2**15  # measured at once, to fit into the processor's cache


@dataclass(frozen=True)
class Measures:
    """Measures of ``n`` images."""

    hashes: NDArray[np.uint8]
    """``(n, HASH_BYTES)``. The Euclidean distance tells how different two images look."""
    brightness: NDArray[np.float64]
    """``(n,)``, mean of the grey image, 0..255."""
    sharpness: NDArray[np.float64]
    """``(n,)``, variance of the grey image's Laplacian, in squared grey levels; low if an image is
    blurred or flat, 0 if a side is shorter than 3 pixels. (Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", ICPR 2000.)"""


def measure(images: NDArray[np.uint8]) -> Measures:
    """Return the measures of each image.

    Args:
        images: uint8 ``(n, height, width, channels)``, 0..255; channels 1 or 3, sides 1..2048.
    """
    num_images, height, width, _ = images.shape
    brightness = np.empty(num_images)
    sharpness = np.empty(num_images)
    step = max(1, _BLOCK_PIXELS // (height * width))
    for start in range(0, num_images, step):
        block = slice(start, start + step)
        grey = grey_of(images[block])
        brightness[block] = grey.sum(axis=(1, 2), dtype=np.uint32) / (height * width)
        sharpness[block] = _laplacian_variance(grey)
    return Measures(perceptual_hash(images), brightness, sharpness)


def perceptual_hash(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a short vector that re-encoding, rescaling and slight brightening hardly change.

    The vector has the ten lowest frequencies (cosine transform) of the grey image, in units of their
    common strength, and two bytes of mean colour. Bytes are compared by distance, as in Microsoft's
    PhotoDNA, because the bits of the usual 64-bit hashes flip at random if an image is flat.

    Args:
        images: like those of ``measure``.

    Returns:
        uint8 ``(n, HASH_BYTES)``; 128 stands for zero.
    """
    cells = cell_means(images, _GRID, _GRID)
    grey = grey_of(cells)
    _, rows, columns = grey.shape
    num_cells = rows * columns
    grey_sums = grey.sum(axis=(1, 2))
    grey = grey - grey_sums[:, None, None] // num_cells
    waves = (_cosines(rows) @ grey) @ _cosines(columns).T  # (n, 4, 4)
    amplitudes = np.stack([waves[:, u, v] for u, v in _FREQUENCIES], axis=1)
    amplitudes //= num_cells * _COSINE_ONE**2 // _FINE  # in 1 / (LEVEL * _FINE) grey level
    strength = np.sqrt(np.square(amplitudes).sum(axis=1))
    unit = np.maximum(strength, _LEAST_STRENGTH * LEVEL * _FINE)
    hashes = np.full((len(images), HASH_BYTES), _MIDDLE, np.uint8)
    hashes[:, :-2] = np.floor(_MIDDLE + 0.5 + 127 * amplitudes / unit[:, None])
    if images.shape[3] == 3:
        tints = cells[..., [0, 2]].sum(axis=(1, 2)) - grey_sums[:, None]
        hashes[:, -2:] = _MIDDLE + tints // (2 * LEVEL * num_cells)
    return hashes


def cell_means(images: NDArray[np.uint8], most_rows: int, most_columns: int) -> NDArray[np.int32]:
    """Return the means of cells of equal size, at most ``most_rows`` x ``most_columns``.

    If the side is not a multiple of the cell size, the last row or column overlaps the one before.

    Args:
        images: uint8 ``(n, height, width, channels)``, at most 257 pixels high for each row.

    Returns:
        int32 ``(n, rows, columns, channels)``, in units of 1/LEVEL grey level, rounded down.
    """
    num_images, height, width, channels = images.shape
    tall, wide = -(-height // most_rows), -(-width // most_columns)
    rows, columns = -(-height // tall), -(-width // wide)
    strips = np.zeros((num_images, rows, width * channels), np.uint16)
    flat = images.reshape(num_images, height, width * channels)
    for offset in range(tall):
        strips += flat[:, _starts(height, tall, rows, offset)]
    cells = np.zeros((num_images, rows, columns, channels), np.int32)
    pixels = strips.reshape(num_images, rows, width, channels)
    for offset in range(wide):
        cells += pixels[:, :, _starts(width, wide, columns, offset)]
    cells *= LEVEL
    cells //= tall * wide
    return cells


def _starts(side: int, cell: int, num_cells: int, offset: int) -> slice | NDArray[np.int64]:
    """Return an index that selects pixel ``offset`` of each cell."""
    if side % cell == 0:
        return slice(offset, None, cell)  # several times faster than the indices below
    return np.minimum(np.arange(num_cells) * cell, side - cell) + offset


@cache
def _cosines(side: int) -> NDArray[np.int64]:
    """Return the four lowest cosine waves over ``side`` cells: int64 ``(4, side)``.

    Their mean square is ``_COSINE_ONE**2``. Waves that need more cells are 0.
    """
    waves = np.zeros((4, side), np.int64)
    for u in range(min(4, side)):
        height = _COSINE_ONE * (math.sqrt(2) if u else 1)
        for i in range(side):
            waves[u, i] = round(height * math.cos(math.pi * u * (2 * i + 1) / (2 * side)))
    return waves


def grey_of(images: NDArray[np.uint8] | NDArray[np.int32]) -> NDArray[np.integer]:
    """Return ``(n, height, width)``: the channels weighted as in ITU-R BT.601, rounded down."""
    wide = np.uint16 if images.dtype == np.uint8 else np.int32
    if images.shape[3] == 1:
        return images[..., 0].astype(wide)
    grey = images[..., 1] * wide(150)
    grey += images[..., 0] * wide(77)
    grey += images[..., 2] * wide(29)
    grey >>= 8
    return grey


def _laplacian_variance(grey: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return float64 ``(n,)`` for grey images: uint16 ``(n, height, width)``, 0..255."""
    num_images, height, width = grey.shape
    if min(height, width) < 3:
        return np.zeros(num_images)
    grey = grey.view(np.int16)
    laplacian = grey[:, 1:-1, 1:-1] << 2
    laplacian -= grey[:, :-2, 1:-1]
    laplacian -= grey[:, 2:, 1:-1]
    laplacian -= grey[:, 1:-1, :-2]
    laplacian -= grey[:, 1:-1, 2:]
    wide = laplacian.astype(np.int32)
    # all but the edge cancels in the sums; the squares of a row fit into 31 bits, 2046 * 1020**2
    sums = wide.sum(axis=(1, 2), dtype=np.int32).astype(np.int64)
    squares = np.einsum("nij,nij->ni", wide, wide).sum(axis=1, dtype=np.int64)
    num_values = (height - 2) * (width - 2)
    return (squares - sums * sums / num_values) / num_values
