"""Decodes an image file to pixels, with the same decoder and rules in ``prepare`` and ``predict``."""

import io
import logging
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, features
from PIL.TiffImagePlugin import TiffImageFile

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.colour import GREY_MODES, to_channels
from darkroom.decoding.completeness import explain, explain_failure, is_cut, load_every_pixel
from darkroom.decoding.formats import (
    MAX_PIXELS,
    MAX_PIXELS_OF_RUNS,
    MAX_PLAIN_VALUES,
    SIGNATURE_BYTES,
    recognise,
)
from darkroom.decoding.structure import TooMuchWork, check_structure

Resize = Literal["stretch", "crop", "pad"]


_HEADER_BYTES = 64 * 1024


# A second limit, because Pillow allocates memory while it reads some headers (the canvas of a WebP,
# the background of a GIF frame). Pillow raises above twice this number and warns above it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


# Relevant damage raises an exception. Pillow's warnings (mostly about odd EXIF) name no file and would
# come by the thousand. The filter is permanent because `catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())

_ORIENTATION = 0x0112  # in EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)
_SOURCES_OF_ORIENTATION = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})


@dataclass(frozen=True)
class Header:
    """What a file announces about its image; sizes in pixels, as displayed."""

    width: int
    height: int
    mode: str
    format: str
    animated: bool
    """Whether there is more than one frame or page. The first is used."""

    @property
    def is_grey(self) -> bool:
        return self.mode in GREY_MODES


@dataclass(frozen=True)
class PixelLayout:
    """The size and channels of the prepared images, and how images are resized to them."""

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Resize

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)``"""
        return (self.height, self.width, self.channels)


def decoder_version() -> str:
    """Return the versions of all libraries that decode images, as part of a cache key."""
    parts = ("pil", "libjpeg_turbo", "jpg", "zlib_ng", "zlib", "webp", "avif", "libtiff", "littlecms2")
    return " ".join(f"{part}={features.version(part)}" for part in parts)


def read_header(encoded: bytes | BinaryIO, tiff: bool = False) -> Header:
    """Read the size and mode of an image without decoding it.

    Args:
        encoded: the bytes of a file, or the file itself, opened at its start. An open file is read only
            as far as needed (WebP and AVIF completely, GIF up to the first frame), and its structure
            is checked only in the first 64 KiB.
        tiff: accept TIFF.

    Returns:
        The header that ``decode`` returns, except that an orientation stored after the pixels, as in
        some PNG files, is missed.

    Raises:
        BadImage: the file is empty or of an unknown format, or has a damaged header, too many pixels or
            a structure that takes too much work.
    """
    file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    image = open_image(file, encoded if isinstance(encoded, bytes) else file.read(_HEADER_BYTES), tiff)
    return _header(image, is_animated(image), orientation_of(image))


def decode(encoded: bytes, layout: PixelLayout, tiff: bool = False) -> tuple[Header, NDArray[np.uint8]]:
    """Decode an image file and convert it to ``layout``; see ``decode_whole``.

    Images are resized with Pillow's antialiased bilinear filter.

    Args:
        encoded: the bytes of a file.
        layout: the size and channels of the result.
        tiff: accept TIFF.

    Returns:
        The header, and the pixels: uint8 ``(height, width, channels)``, 0..255, read-only.

    Raises:
        BadImage: as ``decode_whole``.
    """
    header, upright = decode_whole(encoded, layout.channels, tiff)
    pixels = np.frombuffer(resize(upright, layout).tobytes(), np.uint8)
    return header, pixels.reshape(layout.height, layout.width, layout.channels)


def decode_whole(
    encoded: bytes, channels: Literal[1, 3], tiff: bool = False
) -> tuple[Header, Image.Image]:
    """Decode an image file in its own size.

    - The orientation in EXIF or XMP is applied; an unreadable one is ignored.
    - If there are several frames or pages, the first is used.
    - Transparency is composited on white. CMYK, palettes and other colour spaces become RGB; colour
      profiles are not applied.
    - 16-bit grey is divided by 257 and rounded. 16-bit colour is reduced to its upper 8 bits, which is
      lower by less than one of 256 steps. 32-bit integers are read as 16-bit grey.
    - Floating-point grey is black at 0 and white at 1. Values out of range are rejected, not clipped.

    A JPEG that was truncated and then closed with an end marker decodes to grey below the cut in every
    decoder, and cannot be told from a picture that is grey there.

    Args:
        encoded: the bytes of a file.
        tiff: accept TIFF.

    Returns:
        The header, and the image as displayed: mode L for one channel, RGB for three.

    Raises:
        BadImage: a pixel cannot be decoded, there are too many pixels, or the structure takes too much
            work (see ``structure.py``).
    """
    file = io.BytesIO(encoded)
    image = open_image(file, encoded, tiff)
    animated = is_animated(image)
    try:
        load_every_pixel(image, file)
        orientation = orientation_of(image)
        header = _header(image, animated, orientation)
        upright = turn_upright(image, orientation)
        del image  # so that no more than two copies are held
        return header, to_channels(upright, channels)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise exceptions of many types
        raise explain_failure(error, file) from None


def open_image(file: BinaryIO, content: bytes, tiff: bool) -> ImageFile.ImageFile:
    """Read the header of a file; ``content`` holds all of its bytes or the beginning."""
    # Any code may have set this. Pillow would then silently fill missing pixels with grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    format = recognise(content[:SIGNATURE_BYTES], tiff)
    file.seek(0)
    try:
        check_structure(format.name, content)
    except TooMuchWork as error:
        raise BadImage("too large", f"too much work to decode: {error}") from None
    try:
        image = format.plugin(file)
    except MemoryError:
        raise
    except Exception as error:  # parsers raise exceptions of many types
        is_read_whole = format.name in ("WEBP", "AVIF", "TIFF")
        ran_out = is_cut(file) if is_read_whole else file.tell() >= file.seek(0, io.SEEK_END)
        raise explain(error, ran_out) from None
    width, height = image.size
    codec = image.tile[0].codec_name if image.tile else ""
    limit = format.max_pixels
    if codec == "bmp_rle":
        limit = MAX_PIXELS_OF_RUNS
    elif codec == "ppm_plain":
        limit = MAX_PLAIN_VALUES // len(image.getbands())
    if width * height > limit:
        raise BadImage("too large", f"{width} x {height} pixels; at most {limit:,} are decoded")
    if codec == "bmp_rle":
        # two bytes per pixel if no two are equal, and a mark per row; any more are empty runs
        most = 2 * width * height + 4 * height + _HEADER_BYTES
        if len(content) - image.tile[0].offset > most:
            raise BadImage("too large", f"too much work to decode: over {most:,} bytes of runs")
    if format.name == "JPEG" and not image.tile:
        raise BadImage("truncated", "the bytes end too early")
    # at least a row at a time: with every block, Pillow joins the pieces of a row again
    image.decodermaxblock = max(image.decodermaxblock, 8 * width)
    return image


def _header(image: ImageFile.ImageFile, animated: bool, orientation: int) -> Header:
    width, height = image.size
    if orientation in _QUARTER_TURNS:
        width, height = height, width
    return Header(width, height, image.mode, image.format or "", animated)


def is_animated(image: ImageFile.ImageFile) -> bool:
    """Return whether there is more than one frame or page."""
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # a damaged second frame of a GIF: there is one
        return True


def orientation_of(image: ImageFile.ImageFile) -> int:
    """Return how the stored pixels must be turned: 1..8 as in EXIF; 1, the default: not at all."""
    if isinstance(image, TiffImageFile) or _SOURCES_OF_ORIENTATION.isdisjoint(image.info):
        return 1  # Pillow already turns TIFF
    try:
        # not image.getexif(), which decodes the whole image of a PNG first
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is ignored
        return 1
    return orientation if orientation in _TURNS else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image as displayed; ``orientation`` as ``orientation_of`` returns."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def resize(
    image: Image.Image,
    layout: PixelLayout,
    method: Image.Resampling = Image.Resampling.BILINEAR,
    fill: int = 0,
) -> Image.Image:
    """Return an image in the size of ``layout``; ``fill`` is the value of padding."""
    size = (layout.width, layout.height)
    if image.size == size:
        return image
    match layout.resize:
        case "stretch":
            return image.resize(size, method)
        case "crop":
            return ImageOps.fit(image, size, method)
        case "pad":
            return _pad(image, size, method, fill)


def _pad(image: Image.Image, size: tuple[int, int], method: Image.Resampling, fill: int) -> Image.Image:
    corner, inner = scale_to_fit(image.size, size)
    padded = Image.new(image.mode, size, fill)
    padded.paste(image.resize(inner, method), corner)
    return padded


def scale_to_fit(
    image_size: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where ``ImageOps.pad`` puts an image, but with at least one pixel of the shorter side.

    Args:
        image_size: width and height.
        size: those of the result.

    Returns:
        left and top, and the width and height of the image within the result.
    """
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    inner = (max(round(image_size[0] * scale), 1), max(round(image_size[1] * scale), 1))
    left, top = (round((whole - part) / 2) for whole, part in zip(size, inner, strict=True))
    return (left, top), inner
