"""One image file to pixels: the same decoder and the same rules in ``prepare`` and ``predict``."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageFile, ImageOps, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import (
    PLANAR_CONFIGURATION,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILEOFFSETS,
    ImageFileDirectory_v2,
    TiffImageFile,
)
from PIL.WebPImagePlugin import WebPImageFile

from darkroom.collection.entries import Outcome
from darkroom.decoding.structure import TooMuchWork, check_structure

MAX_PIXELS = 103_000_000
"""Largest image that is decoded, checked in its header first. It takes 8 bytes a pixel, or 10 (JPEG)."""

MAX_PIXELS_OF_COPIES = 50_000_000
"""The same for WebP and AVIF, whose decoders hold several copies, up to 20 bytes a pixel."""

MAX_PIXELS_OF_RUNS = 10_000_000
"""The same for BMP with run lengths, where a few bytes can keep Pillow busy for each pixel."""

MAX_PLAIN_VALUES = 20_000_000
"""Most values (pixels, times three in colour) of a plain (text) PPM, which Pillow reads in Python."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})

Resize = Literal["stretch", "crop", "pad"]


class _Format(NamedTuple):
    name: str
    signature: re.Pattern[bytes]
    """How its files begin. A file's name decides nothing."""
    plugin: type[ImageFile.ImageFile]
    max_pixels: int = MAX_PIXELS


_FORMATS = (  # the likeliest first
    # not Pillow's jpeg_factory, which fails where the list of further pictures (MPO) is damaged
    _Format("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    _Format("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    _Format("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile, MAX_PIXELS_OF_COPIES),
    _Format("GIF", re.compile(rb"GIF8[79]a"), GifImageFile),
    # two letters are too little to know it by, hence also the size of its second header
    _Format("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), BmpImageFile),
    _Format("PPM", re.compile(rb"P[1-6f]\s+(?:#|\d|$)"), PpmImageFile),
    # HEIC consists of the same boxes, but avif or avis is not among its brands
    _Format(
        "AVIF",
        re.compile(rb".{4}ftyp(?:.{4})*?avi[fs]", re.DOTALL),
        AvifImageFile,
        MAX_PIXELS_OF_COPIES,
    ),
    _Format("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
)
_SIGNATURE_BYTES = 64
_HEADER_BYTES = 64 * 1024

FORMATS = tuple(format.name for format in _FORMATS if format.name != "AVIF" or features.check("avif"))
"""What is opened; TIFF only where it is asked for."""

# A second stop, where Pillow takes memory while it reads a header (the canvas of a WebP, the
# background of a GIF's frame). Pillow raises above twice this number, and warns above it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded side by side already

# Damage that matters raises. Pillow's warnings (odd EXIF, mostly) name no file and would come by
# the thousand; a filter for good, because `catch_warnings` is not safe in threads.
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

_TILE = 2048
"""Side in pixels of the pieces in which images are converted, so that temporaries stay small."""

# What Pillow says while it decodes where no more bytes come; a PNG may end in a chunk's name.
_RAN_OUT = re.compile(r"truncated|not enough image data|chunk b'.{0,3}'", re.IGNORECASE)


class BadImage(Exception):
    """A file that cannot be used.

    Args:
        outcome: "empty", "not an image", "truncated" (the bytes end before what they announce),
            "unreadable" (damaged, or content that is not supported) or "too large".
        reason: why, in a few words.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(outcome, reason)  # both, so that it can be pickled
        self.outcome = outcome
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Header:
    """What a file says of its image; sizes in pixels, as displayed."""

    width: int
    height: int
    mode: str
    format: str
    animated: bool
    """More than one frame or page. The first is used."""

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

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)``"""
        return (self.height, self.width, self.channels)


def decoder_version() -> str:
    """Returns the versions of all that turns bytes into pixels, for the keys of caches."""
    parts = ("pil", "libjpeg_turbo", "jpg", "zlib_ng", "zlib", "webp", "avif", "libtiff", "littlecms2")
    return " ".join(f"{part}={features.version(part)}" for part in parts)


def read_header(encoded: bytes | BinaryIO, tiff: bool = False) -> Header:
    """Reads size and mode without decoding.

    Args:
        encoded: the bytes of a file, or the file itself, open at its start, of which no more is read
            than needed (of WebP and AVIF all, of GIF the first frame). Of an open file the structure
            is checked in the first 64 KiB alone.
        tiff: read TIFF as well.

    Returns:
        What ``decode`` returns, but that an orientation which comes after the pixels, as it may in
        a PNG, is not seen.

    Raises:
        BadImage: empty, no image of a known format, a damaged header, too many pixels, or a structure
            that takes too much work.
    """
    file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    image = _open(file, encoded if isinstance(encoded, bytes) else file.read(_HEADER_BYTES), tiff)
    return _header(image, _is_animated(image), _orientation(image))


def decode(encoded: bytes, layout: PixelLayout, tiff: bool = False) -> tuple[Header, NDArray[np.uint8]]:
    """Decodes an image file and brings it to ``layout``.

    - The orientation in EXIF or XMP is applied; where it cannot be read, there is none.
    - Of several frames or pages the first is taken.
    - Transparency is composed on white. CMYK, palettes and other colour spaces become RGB; colour
      profiles are not applied.
    - 16-bit grey is divided by 257 and rounded. Of 16-bit colour the upper 8 bits are taken, which
      is less than one step of 256 lower. Whole numbers of 32 bits are taken as grey of 16 bits.
    - Fractions are black at 0 and white at 1. What is outside of a range is refused, never clipped.
    - Resizing is Pillow's antialiased bilinear filter.

    A JPEG that was cut and closed again with an end marker decodes to grey below the cut, in every
    decoder; nothing tells it from a picture that is grey there.

    Args:
        encoded: the bytes of a file.
        layout: the shape to bring the image to.
        tiff: read TIFF as well.

    Returns:
        The file's header, and its pixels: uint8 ``(height, width, channels)``, 0..255, read-only.

    Raises:
        BadImage: the file cannot be decoded to its last pixel, has too many pixels, or a structure that
            takes too much work (see ``structure``).
    """
    file = io.BytesIO(encoded)
    image = _open(file, encoded, tiff)
    animated = _is_animated(image)
    try:
        _load(image, file)
        orientation = _orientation(image)
        header = _header(image, animated, orientation)
        upright = _upright(image, orientation)
        del image  # so that no more than two copies are held
        upright = _to_channels(upright, layout.channels)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        ran_out = _RAN_OUT.search(str(error)) is not None or _is_cut(file)
        raise _explained(error, ran_out) from None
    pixels = np.frombuffer(_resize(upright, layout).tobytes(), np.uint8)
    return header, pixels.reshape(layout.height, layout.width, layout.channels)


def _open(file: BinaryIO, content: bytes, tiff: bool) -> ImageFile.ImageFile:
    """Reads a file's header; ``content`` is what is known of its bytes, all or the beginning."""
    # Anyone may set this; Pillow then fills what is missing of a file with grey, and says nothing.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    format = _recognise(content[:_SIGNATURE_BYTES], tiff)
    file.seek(0)
    try:
        check_structure(format.name, content)
    except TooMuchWork as error:
        raise BadImage("too large", f"too much work to decode: {error}") from None
    try:
        image = format.plugin(file)
    except MemoryError:
        raise
    except Exception as error:  # plugins raise whatever their parser stumbles over
        is_read_whole = format.name in ("WEBP", "AVIF", "TIFF")
        ran_out = _is_cut(file) if is_read_whole else file.tell() >= file.seek(0, io.SEEK_END)
        raise _explained(error, ran_out) from None
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
        # two bytes per pixel where no two are the same, a mark per row; more are runs of nothing
        most = 2 * width * height + 4 * height + _HEADER_BYTES
        if len(content) - image.tile[0].offset > most:
            raise BadImage("too large", f"too much work to decode: over {most:,} bytes of runs")
    if format.name == "JPEG" and not image.tile:
        raise BadImage("truncated", "the bytes end too early")
    # a row at a time at least: Pillow joins the pieces of a row anew with every piece
    image.decodermaxblock = max(image.decodermaxblock, 8 * width)
    return image


def _recognise(start: bytes, tiff: bool) -> _Format:
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
            "the file is TIFF, which is read only where asked for (prepare.tiff, predict --tiff)",
        )
    if format.name not in FORMATS:
        raise BadImage("unreadable", f"the file is {format.name}, which this Pillow cannot read")
    return format


def _header(image: ImageFile.ImageFile, animated: bool, orientation: int) -> Header:
    width, height = image.size
    if orientation in _QUARTER_TURNS:
        width, height = height, width
    return Header(width, height, image.mode, image.format or "", animated)


def _load(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Decodes every pixel.

    Pillow says nothing where the compressed pixels of a PNG, or the strips of a TIFF, end well but
    early, and leaves the other pixels as it found them, black.
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
    # where nothing was written, or nothing tells, the second time decides: what it finds is black
    if image.getpixel(last) == value or "interlace" in image.info:
        file.seek(0)
        again = PngImageFile(file)
        again.load()
        if any(again.crop(box).tobytes() != image.crop(box).tobytes() for box in _tiles(image)):
            raise BadImage("truncated", "fewer rows of pixels than the header says")


def _is_animated(image: ImageFile.ImageFile) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # GIF looks for the second frame, which is damaged: there is one
        return True


def _orientation(image: ImageFile.ImageFile) -> int:
    """Returns how the stored pixels are to be turned: 1..8 as in EXIF, 1 where nothing says so."""
    if isinstance(image, TiffImageFile) or _SOURCES_OF_ORIENTATION.isdisjoint(image.info):
        return 1  # Pillow turns TIFF itself
    try:
        # not image.getexif(): for a PNG that decodes the whole image first
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing
        return 1
    return orientation if orientation in _TURNS else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _transparent_value(image: ImageFile.ImageFile) -> object:
    """Brings the transparent value of a PNG from the file's depth to that of Pillow's pixels."""
    value, depth = image.info["transparency"], image.tile[0].args
    match depth:
        case "L;2":
            return value * 85
        case "L;4":
            return value * 17
        case "RGB;16B":
            return tuple(part >> 8 for part in value)
    return value


def _to_channels(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F":
        return _by_tiles(image, mode, _from_fractions)
    if image.mode.startswith("I"):
        return _by_tiles(image, mode, _from_16_bits)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _by_tiles(image, mode, _on_white)
    if image.mode == "LAB":
        return _by_tiles(image, mode, lambda tile: tile.convert("RGB"))
    return image.convert(mode)


def _by_tiles(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Converts tile after tile to an image of ``mode``."""
    if image.width <= _TILE and image.height <= _TILE:
        return convert(image).convert(mode)
    whole = Image.new(mode, image.size)
    for box in _tiles(image):
        whole.paste(convert(image.crop(box)).convert(mode), box)
    return whole


def _tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yields left, top, right and bottom."""
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
    with np.errstate(invalid="ignore"):  # NaN, which is not in the range
        fractions = np.asarray(image).astype(np.float64)
        if not ((fractions >= 0) & (fractions <= 1)).all():
            found = f"{fractions.min():g}..{fractions.max():g}"
            raise BadImage("unreadable", f"fractions {found}; only 0 (black) to 1 (white) are known")
    return Image.fromarray(np.rint(fractions * 255).astype(np.uint8))


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


def _explained(error: Exception, ran_out: bool) -> BadImage:
    """Makes a ``BadImage`` of what Pillow raised; ``ran_out`` tells that it wanted more bytes."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, Image.DecompressionBombError):
        return BadImage("too large", text.partition(",")[0])
    if ran_out:
        return BadImage("truncated", "the bytes end too early")
    if any(isinstance(part, KeyError) for part in (error, *error.args)):
        text = f"unknown value {text}"
    return BadImage("unreadable", f"damaged, or not supported ({text})")


def _is_cut(file: BinaryIO) -> bool:
    """Tells whether a WebP, AVIF or TIFF announces more bytes than there are.

    Their decoders take the file whole, and say no more than that they failed.
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
    while (box_bytes := int.from_bytes(head[:4], "big")) >= 8:  # 0: to the file's end; 1: in 64 bits
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
        if directory.next == start:  # it is set where the directory could be read to its end
            return True
        places = ((STRIPOFFSETS, STRIPBYTECOUNTS), (TILEOFFSETS, TILEBYTECOUNTS))
        return any(
            offset + num_bytes > size
            for offsets, counts in places
            for offset, num_bytes in zip(
                directory.get(offsets, ()), directory.get(counts, ()), strict=False
            )
        )
    except Exception:  # it is damaged too
        return False
