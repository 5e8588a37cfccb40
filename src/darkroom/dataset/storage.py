"""The two forms of a prepared image on disk: plain pixels, or lossless WebP."""

import io
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Storage = Literal["decoded", "encoded"]

LARGEST_DECODED_BYTES = 32 * 2**30
"""Maximum size of decoded pixels with ``auto``; larger data sets are encoded."""


def choose_storage(
    asked: Literal["auto"] | Storage, shape: tuple[int, int, int], num_images: int
) -> Storage:
    """Return the storage to use for ``num_images`` images of ``(height, width, channels)``."""
    if asked != "auto":
        return asked
    fits = num_images * int(np.prod(shape)) <= LARGEST_DECODED_BYTES
    return "decoded" if fits else "encoded"


def as_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return uint8 ``(height, width, channels)`` as a Pillow image, grey or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def pack_image(pixels: NDArray[np.uint8], storage: Storage) -> bytes:
    """Return the stored bytes of an image: uint8 ``(height, width, channels)``.

    ``encoded`` is lossless WebP, which halves the size of photographs and decodes faster than PNG. If it
    is not smaller than the pixels (tiny images, noise), these are stored instead.
    """
    plain = pixels.tobytes()
    if storage == "decoded":
        return plain
    encoded = io.BytesIO()
    as_picture(pixels).save(encoded, format="WEBP", lossless=True, quality=0, method=0)
    return min(plain, encoded.getvalue(), key=len)


def pack_images(
    images: NDArray[np.uint8], storage: Storage
) -> tuple[bytes | NDArray[np.uint8], NDArray[np.int64]]:
    """Pack uint8 ``(n, height, width, channels)``; decoded images without a copy.

    Returns:
        The bytes of all images in order, and the size of each, int64 ``(n,)``.
    """
    if storage == "decoded":
        return images.reshape(-1), np.full(len(images), images[:1].nbytes)
    packed = [pack_image(image, storage) for image in images]
    return b"".join(packed), np.array([len(image) for image in packed], np.int64)


def unpack_image(
    stored: bytes | memoryview, shape: tuple[int, int, int], storage: Storage
) -> NDArray[np.uint8]:
    """Return the image that ``pack_image`` stored: uint8 ``shape``, possibly read-only."""
    if storage == "encoded" and len(stored) != math.prod(shape):
        with Image.open(io.BytesIO(stored), formats=["WEBP"]) as image:
            return np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
    return np.frombuffer(stored, np.uint8).reshape(shape)
