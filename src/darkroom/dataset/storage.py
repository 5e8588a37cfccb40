"""How one prepared image lies on disk: its pixels as they are, or encoded without loss."""

import io
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Storage = Literal["decoded", "encoded"]

LARGEST_DECODED_BYTES = 32 * 2**30
"""``auto`` keeps more pixels than this encoded."""


def choose_storage(
    asked: Literal["auto"] | Storage, shape: tuple[int, int, int], num_images: int
) -> Storage:
    """Settles what ``auto`` means for so many images of ``(height, width, channels)``."""
    if asked != "auto":
        return asked
    fits = num_images * int(np.prod(shape)) <= LARGEST_DECODED_BYTES
    return "decoded" if fits else "encoded"


def as_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Returns Pillow's image of uint8 ``(height, width, channels)``, grey or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def pack_image(pixels: NDArray[np.uint8], storage: Storage) -> bytes:
    """Returns the bytes to store of an image: uint8 ``(height, width, channels)``.

    Encoded means lossless WebP: half the size of photographs, and quicker to decode than PNG. Where it
    is no smaller (tiny images, noise) the pixels are stored as they are.
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
    """Packs uint8 ``(n, height, width, channels)``, one behind the other, decoded without a copy.

    Returns:
        The bytes of all, and the size of each, int64 ``(n,)``.
    """
    if storage == "decoded":
        return images.reshape(-1), np.full(len(images), images[:1].nbytes)
    packed = [pack_image(image, storage) for image in images]
    return b"".join(packed), np.array([len(image) for image in packed], np.int64)


def unpack_image(
    stored: bytes | memoryview, shape: tuple[int, int, int], storage: Storage
) -> NDArray[np.uint8]:
    """Returns the image that ``pack_image`` stored: uint8 ``shape``, perhaps read-only."""
    if storage == "encoded" and len(stored) != math.prod(shape):
        with Image.open(io.BytesIO(stored), formats=["WEBP"]) as image:
            return np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
    return np.frombuffer(stored, np.uint8).reshape(shape)
