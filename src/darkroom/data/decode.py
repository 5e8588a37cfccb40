"""One image file to pixels: the same decoder and the same rules in ``prepare`` and ``predict``."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")
"""What is opened, decided by a file's content and never by its name."""

MAX_PIXELS = 2**27
"""Largest image that is decoded, 134 million pixels, checked in the header before memory is taken."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})

Resize = Literal["stretch", "crop", "pad"]

# MAX_PIXELS decides, and says the size; Pillow's own limit warns below it and hides the size above.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION = 0x0112  # in EXIF

# What Pillow's decoders raise on bytes that are not what their header says.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


class BadImage(Exception):
    """A file that cannot be used; the message says why, in a few words."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image before it is decoded; sizes in pixels, as displayed."""

    width: int
    height: int
    mode: str
    format: str

    @property
    def is_grey(self) -> bool:
        return self.mode in GREY_MODES


@dataclass(frozen=True)
class PixelLayout:
    """The shape that every image is brought to."""

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Resize


def read_header(encoded: bytes) -> Header:
    """Reads size and mode without decoding.

    Raises:
        BadImage: ``encoded`` is empty, no image of a known format, or has too many pixels.
    """
    with _open(encoded) as image:
        return _header(image)


def decode(encoded: bytes, layout: PixelLayout) -> tuple[Header, NDArray[np.uint8]]:
    """Decodes an image file and brings it to ``layout``.

    EXIF orientation is applied; transparency is composed on white; 16-bit grey is scaled to
    8 bits (divided by 257, rounded); CMYK and palettes become RGB; of an animation the first
    frame is taken. Resizing is Pillow's antialiased bilinear filter.

    Returns:
        The file's header, and its pixels: uint8 ``(height, width, channels)``, 0..255.

    Raises:
        BadImage: the file cannot be decoded to its last pixel, or has too many pixels.
    """
    with _open(encoded) as image:
        header = _header(image)
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = _resize(_to_channels(upright, layout.channels), layout)
        except _DECODER_ERRORS as error:
            raise BadImage(_in_words(error)) from None
    shape = (layout.height, layout.width, layout.channels)
    return header, np.asarray(pixels, np.uint8).reshape(shape)


def _open(encoded: bytes) -> Image.Image:
    if not encoded:
        raise BadImage("empty file")
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except _DECODER_ERRORS:
        raise BadImage(f"not an image of a known format ({', '.join(FORMATS)})") from None


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")
    try:
        # not image.getexif(): for a PNG that decodes the whole image first
        turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except _DECODER_ERRORS as error:
        raise BadImage(f"damaged EXIF data ({error})") from None
    if turned:
        width, height = height, width
    return Header(width, height, image.mode, image.format or "")


def _to_channels(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    if image.mode == "F":
        raise BadImage("pixels are fractions, of which it is not known what is white")
    if image.mode.startswith("I"):
        image = _to_8_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65_535:
        raise BadImage(f"values {wide.min()}..{wide.max()}; grey has at most 16 bits")
    grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:
        opaque = wide != image.info["transparency"]
        grey.putalpha(Image.fromarray((opaque * 255).astype(np.uint8)))
    return grey


def _resize(image: Image.Image, layout: PixelLayout) -> Image.Image:
    size = (layout.width, layout.height)
    if image.size == size:
        return image
    match layout.resize:
        case "stretch":
            return image.resize(size, Image.Resampling.BILINEAR)
        case "crop":
            return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        case "pad":
            return _pad(image, size)


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As ``ImageOps.pad``, but of a very long image at least one pixel is left."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    padded = Image.new(image.mode, size)
    left, top = (round((whole - part) / 2) for whole, part in zip(size, inner, strict=True))
    padded.paste(image.resize(inner, Image.Resampling.BILINEAR), (left, top))
    return padded


def _in_words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "truncated or damaged: " + text.splitlines()[0]
