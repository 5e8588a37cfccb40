"""Converts images of every Pillow mode to grey or RGB with 8 bits per channel."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from PIL import Image

from darkroom.decoding.bad_image import BadImage

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})
"""Pillow's modes without colour."""

_TILE = 2048
"""Side in pixels of the tiles in which images are converted, so that temporary copies stay small."""


def to_channels(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    """Return the image as grey (1 channel) or RGB (3), with transparency composited on white.

    Raises:
        BadImage: a value is outside the range of 16-bit grey, or of fractions from 0 to 1.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F":
        return _bytiles(image, mode, _from_fractions)
    if image.mode.startswith("I"):
        return _bytiles(image, mode, _from_16_bits)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _bytiles(image, mode, _on_white)
    if image.mode == "LAB":
        return _bytiles(image, mode, lambda tile: tile.convert("RGB"))
    return image.convert(mode)


def _bytiles(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Convert one tile after the other to ``mode``."""
    if image.width <= _TILE and image.height <= _TILE:
        return convert(image).convert(mode)
    whole = Image.new(mode, image.size)
    for box in tiles(image):
        whole.paste(convert(image.crop(box)).convert(mode), box)
    return whole


def tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yield the left, top, right and bottom edge of each tile."""
    for top in range(0, image.height, _TILE):
        for left in range(0, image.width, _TILE):
            yield left, top, min(left + _TILE, image.width), min(top + _TILE, image.height)


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def _from_16_bits(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65_535:
        raise BadImage(
            "unreadable", f"values {wide.min()}..{wide.max()}; grey has 16 bits at most, 0..65535"
        )
    grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    opaque = wide != image.info["transparency"]
    grey.putalpha(Image.fromarray((opaque * 255).astype(np.uint8)))
    return _on_white(grey)


def _from_fractions(image: Image.Image) -> Image.Image:
    with np.errstate(invalid="ignore"):  # NaN is outside the range
        fractions = np.asarray(image).astype(np.float64)
        if not ((fractions >= 0) & (fractions <= 1)).all():
            found = f"{fractions.min():g}..{fractions.max():g}"
            raise BadImage("unreadable", f"fractions {found}; only 0 (black) to 1 (white) are known")
    return Image.fromarray(np.rint(fractions * 255).astype(np.uint8))
