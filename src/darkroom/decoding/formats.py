"""The image formats that are decoded, how their files begin, and how many pixels each may have."""

import re
from typing import NamedTuple

from PIL import AvifImagePlugin, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from darkroom.decoding.bad_image import BadImage

MAX_PIXELS = 103_000_000
"""Maximum number of pixels, checked in the header. Decoding takes 8 bytes per pixel (JPEG: 10)."""

MAX_PIXELS_OF_COPIES = 50_000_000
"""Maximum for WebP and AVIF, whose decoders hold several copies: up to 20 bytes per pixel."""

MAX_PIXELS_OF_RUNS = 10_000_000
"""Maximum for run-length encoded BMP, in which a few bytes can keep Pillow busy for each pixel."""

MAX_PLAIN_VALUES = 20_000_000
"""Maximum number of values (pixels, times three in colour) of a plain-text PPM, which Pillow parses in
Python."""

SIGNATURE_BYTES = 64
"""Bytes at the beginning of a file that tell its format."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded in parallel already


class Format(NamedTuple):
    """A format, and the limit on its images."""

    name: str
    signature: re.Pattern[bytes]
    """How its files begin. The file name is ignored."""
    plugin: type[ImageFile.ImageFile]
    max_pixels: int = MAX_PIXELS


_FORMATS = (  # the most common first
    # not Pillow's jpeg_factory, which fails if the list of further pictures (MPO) is damaged
    Format("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    Format("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    Format("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile, MAX_PIXELS_OF_COPIES),
    Format("GIF", re.compile(rb"GIF8[79]a"), GifImageFile),
    # two letters are not distinctive enough, so the size of the second header is checked too
    Format("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), BmpImageFile),
    Format("PPM", re.compile(rb"P[1-6f]\s+(?:#|\d|$)"), PpmImageFile),
    # HEIC files consist of the same boxes, but without the brands avif and avis
    Format(
        "AVIF",
        re.compile(rb".{4}ftyp(?:.{4})*?avi[fs]", re.DOTALL),
        AvifImageFile,
        MAX_PIXELS_OF_COPIES,
    ),
    Format("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
)

FORMATS = tuple(format.name for format in _FORMATS if format.name != "AVIF" or features.check("avif"))
"""Names of the formats that are opened; TIFF only on request."""


def recognise(start: bytes, tiff: bool) -> Format:
    """Return the format of a file, given its first ``SIGNATURE_BYTES``.

    Args:
        tiff: accept TIFF.

    Raises:
        BadImage: the file is empty or of an unknown or unsupported format.
    """
    if not start:
        raise BadImage("empty", "empty file")
    for format in _FORMATS:
        if format.signature.match(start):
            break
    else:
        known = ", ".join(name for name in FORMATS if tiff or name != "TIFF")
        raise BadImage("not an image", f"not an image of a known format ({known})")
    if format.name == "TIFF" and not tiff:
        raise BadImage(
            "not an image",
            "the file is TIFF, which is read only on request (prepare.tiff, predict --tiff)",
        )
    if format.name not in FORMATS:
        raise BadImage("unreadable", f"the file is {format.name}, which this Pillow cannot read")
    return format
