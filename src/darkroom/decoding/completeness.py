"""Tells whether an image file is complete: whether every pixel that it announces is there."""

import io
import re
from typing import BinaryIO

from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import (
    PLANAR_CONFIGURATION,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILEOFFSETS,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.colour import tiles

# Pillow's messages if the bytes end too early; a PNG may end within the name of a chunk.
_RAN_OUT = re.compile(r"truncated|not enough image data|chunk b'.{0,3}'", re.IGNORECASE)


def load_every_pixel(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Decode every pixel.

    If the compressed pixels of a PNG or the strips of a TIFF end early but properly, Pillow reports
    nothing and leaves the remaining pixels black.

    Raises:
        BadImage: there are fewer pixels than the header announces.
    """
    width, height = image.size
    if isinstance(image, TiffImageFile):
        extents = [tile.extents for tile in image.tile if tile.extents]
        num_pixels = sum((right - left) * (bottom - top) for left, top, right, bottom in extents)
        is_planar = len(extents) > 1 and image.tag_v2.get(PLANAR_CONFIGURATION) == 2
        if num_pixels < width * height * (len(image.getbands()) if is_planar else 1):
            raise BadImage("truncated", "fewer rows of pixels than the header says")
    if not isinstance(image, PngImageFile):
        image.load()
        return
    if "transparency" in image.info:
        image.info["transparency"] = _transparent_value(image)
    last = (width - 1, height - 1)
    unwritten = Image.new(image.mode, image.size, 171)
    value = unwritten.getpixel(last)
    image.im = unwritten.im
    image.load()
    # if the last pixel was not written, or may not have been, decode onto black and compare
    if image.getpixel(last) == value or "interlace" in image.info:
        file.seek(0)
        again = PngImageFile(file)
        again.load()
        if any(again.crop(box).tobytes() != image.crop(box).tobytes() for box in tiles(image)):
            raise BadImage("truncated", "fewer rows of pixels than the header says")


def _transparent_value(image: ImageFile.ImageFile) -> object:
    """Convert the transparent value of a PNG from the bit depth of the file to that of Pillow."""
    value, depth = image.info["transparency"], image.tile[0].args
    match depth:
        case "L;2":
            return value * 85
        case "L;4":
            return value * 17
        case "RGB;16B":
            return tuple(part >> 8 for part in value)
    return value


def explain_failure(error: Exception, file: BinaryIO) -> BadImage:
    """Return the ``BadImage`` for an exception that Pillow raised while decoding ``file``."""
    return explain(error, _RAN_OUT.search(str(error)) is not None or is_cut(file))


def explain(error: Exception, ran_out: bool) -> BadImage:
    """Return the ``BadImage`` for an exception; ``ran_out``: Pillow needed more bytes than there are."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, Image.DecompressionBombError):
        return BadImage("too large", text.partition(",")[0])
    if ran_out:
        return BadImage("truncated", "the bytes end too early")
    if any(isinstance(part, KeyError) for part in (error, *error.args)):
        text = f"unknown value {text}"
    return BadImage("unreadable", f"damaged, or not supported ({text})")


def is_cut(file: BinaryIO) -> bool:
    """Return whether a WebP, AVIF or TIFF announces more bytes than there are.

    Their decoders take the whole file and only report that they failed.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(8)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:], "little") > size
    if head.startswith((b"II*\0", b"MM\0*")):
        return _is_tiff_cut(file, head, size)
    if head[4:] != b"ftyp":
        return False
    end = 0
    kinds = set()
    while (box_bytes := int.from_bytes(head[:4], "big")) >= 8:  # 0: until the file's end; 1: 64 bits
        kinds.add(head[4:])
        end += box_bytes
        file.seek(end)
        head = file.read(8)
    return end > size or 0 < len(head) < 8 or b"mdat" not in kinds


def _is_tiff_cut(file: BinaryIO, head: bytes, size: int) -> bool:
    if len(head) < 8:
        return True
    directory = ImageFileDirectory_v2(head)
    start = directory.next
    file.seek(start)
    try:
        directory.load(file)
        if directory.next == start:  # set once the whole directory was read
            return True
        places = ((STRIPOFFSETS, STRIPBYTECOUNTS), (TILEOFFSETS, TILEBYTECOUNTS))
        return any(
            offset + num_bytes > size
            for offsets, counts in places
            for offset, num_bytes in zip(
                directory.get(offsets, ()), directory.get(counts, ()), strict=False
            )
        )
    except Exception:  # the directory is damaged too
        return False
