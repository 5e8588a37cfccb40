"""Limits the work that decoding a file takes, by its structure, before anything is decoded.

The time of a decoder depends not only on the number of pixels, but also on the number of scans, chunks
and comments. The check of each format walks over these parts without reading their content, and stops
at a maximum far above that of ordinary files.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

MAX_SCANS = 100
"""Maximum number of scans in a JPEG, each of which visits every pixel. Ordinary progressive files have
about 10; libtiff has the same maximum for JPEG inside TIFF."""

MAX_SEGMENTS = 10_000
"""Maximum number of segments in a JPEG before the first scan."""

MAX_METADATA_BYTES = 64 * 2**20
"""Maximum size of the segments in a JPEG before the first scan."""

MAX_EXIF_BYTES = 4 * 2**20
"""Maximum size of EXIF in several segments of a JPEG, which Pillow joins in quadratic time."""

MAX_FILLER_BYTES = 2**20
"""Maximum number of bytes between the segments of a JPEG, which Pillow skips one by one."""

MAX_CHUNKS = 100_000
"""Maximum number of chunks in a PNG. Pixels take one chunk per 8 KiB or more."""

MAX_PACKED_CHUNKS = 1_000
"""Maximum number of compressed texts and colour profiles in a PNG, each decompressed up to 1 MB."""

MAX_BLOCKS = 1_000_000
"""Maximum number of blocks (up to 255 bytes of pixels or comments) in a GIF up to its second frame."""

MAX_HEADER_BYTES = 2**16
"""Maximum size of the header of a PPM, PGM or PBM with comments, which Pillow reads byte by byte."""

MAX_COMMENTS = 10_000
"""Maximum number of comments in a plain-text PPM, PGM or PBM. Pillow copies 1 MiB for each."""

MAX_ENTRIES = 2**16
"""Maximum number of entries in the directory of a TIFF. Only BigTIFF can have more."""

MAX_ITEM_BYTES = 2**19
"""Maximum size of the item lists of an AVIF, which libavif searches in quadratic time."""

MAX_BOXES = 10_000
"""Maximum number of boxes at the top level of an AVIF."""

MAX_MOVIE_BYTES = 2**20
"""Maximum size of the frame tables of an animated AVIF."""


class TooMuchWork(Exception):
    """Raised if a part of a file exceeds its maximum; the message names part and maximum."""


def check_structure(format: str, content: bytes) -> None:
    """Check how much work it takes to decode a file.

    Damage is not reported: if the structure ends early, the check ends too.

    Args:
        format: "JPEG", "PNG", "GIF", "PPM", "TIFF" or "AVIF". Other formats (WebP, BMP) are not checked,
            because decoding time depends only on the size of the image and of the file.
        content: the bytes of the file, or its beginning.

    Raises:
        TooMuchWork: a part exceeds its maximum.
    """
    if check := _CHECKS.get(format):
        check(content)


# JPEG (ITU-T T.81, Annex B)

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_PIXELS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


def _check_jpeg(content: bytes) -> None:
    at = _check_jpeg_header(content)
    # the start marker of scans may also occur in a thumbnail or in a further picture
    if at is None or content.count(b"\xff\xda", at) < MAX_SCANS:
        return
    num_scans = 1
    while marker := _MARKER_AFTER_PIXELS.search(content, at):
        code, at = content[marker.end() - 1], marker.end()
        if code == _END_OF_IMAGE:
            return
        if code == _START_OF_SCAN:
            num_scans += 1
            _limit(num_scans, MAX_SCANS, "scans")
        if code not in _WITHOUT_LENGTH:
            at += int.from_bytes(content[at : at + 2], "big")


def _check_jpeg_header(content: bytes) -> int | None:
    """Check everything before the first scan; return where its pixels begin, or None."""
    at, num_segments, num_bytes, exif_bytes, filler_bytes = 2, 0, 0, 0, 0
    while marker := _MARKER.search(content, at):
        filler_bytes += marker.start() - at
        code, at = content[marker.end() - 1], marker.end()
        num_segments += 1
        if code not in _WITHOUT_LENGTH:
            length = int.from_bytes(content[at : at + 2], "big")
            num_bytes += length
            if code == _APP1 and content.startswith(b"Exif\0\0", at + 2):
                exif_bytes += length
            at += max(length, 2)
        _limit(num_segments, MAX_SEGMENTS, "segments before the first scan")
        _limit(num_bytes, MAX_METADATA_BYTES, "bytes of metadata")
        _limit(exif_bytes, MAX_EXIF_BYTES, "bytes of EXIF")
        _limit(filler_bytes, MAX_FILLER_BYTES, "bytes between segments")
        if code == _START_OF_SCAN:
            return at
    _limit(filler_bytes + max(len(content) - at, 0), MAX_FILLER_BYTES, "bytes between segments")
    return None


# PNG (ISO/IEC 15948)


def _check_png(content: bytes) -> None:
    at, num_chunks, num_packed = 8, 0, 0
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += length + 12
        num_chunks += 1
        num_packed += kind in (b"iCCP", b"zTXt", b"iTXt")
        _limit(num_chunks, MAX_CHUNKS, "chunks")
        _limit(num_packed, MAX_PACKED_CHUNKS, "compressed texts and profiles")
        if kind == b"IEND":
            return


# GIF (GIF89a specification)


def _check_gif(content: bytes) -> None:
    if len(content) < 13:
        return
    at, size, num_blocks, num_frames = 13, len(content), 0, 0
    if content[10] & 0x80:
        at += 3 << (content[10] & 7) + 1
    while at < size and num_frames < 2:
        kind = content[at : at + 1]
        at += 1
        num_blocks += 1  # Pillow skips everything else byte by byte
        if kind == b";":
            return
        if kind == b",":
            num_frames += 1
            flags = content[at + 8] if at + 8 < size else 0
            at += 10 + ((3 << (flags & 7) + 1) if flags & 0x80 else 0)
        elif kind == b"!":
            at += 1
        if kind in (b",", b"!"):
            while at < size and content[at]:
                at += content[at] + 1
                num_blocks += 1
                if num_blocks > MAX_BLOCKS:
                    break
            at += 1
        _limit(num_blocks, MAX_BLOCKS, "blocks")


# PPM, PGM, PBM (netpbm)


def _check_ppm(content: bytes) -> None:
    num_numbers = 2 if content[1:2] in b"14" else 3
    end = _end_of_numbers(content[2:MAX_HEADER_BYTES], num_numbers)
    if end is None:
        _limit(len(content), MAX_HEADER_BYTES, "bytes of header")
    if content[1:2] in b"123":
        _limit(content.count(b"#"), MAX_COMMENTS, "comments")


def _end_of_numbers(header: bytes, num_numbers: int) -> int | None:
    """Return the end of the given number of numbers, or None."""
    at = 0
    for _ in range(num_numbers):
        number = _NUMBER_AFTER_BLANKS.match(header, at)
        if number is None:
            return None
        at = number.end()
    return at


_NUMBER_AFTER_BLANKS = re.compile(
    rb"(?:[ \t\n\r\x0b\x0c]|#[^\r\n]*[\r\n])+[^# \t\n\r\x0b\x0c]+(?=[\s#])"
)


# TIFF, BigTIFF


def _check_tiff(content: bytes) -> None:
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    if content[2:4] in (b"+\0", b"\0+"):
        start = int.from_bytes(content[8:16], order)
        num_entries = int.from_bytes(content[start : start + 8], order)
        _limit(num_entries, MAX_ENTRIES, "entries in its directory")


# AVIF (ISO/IEC 14496-12)

_LISTS = frozenset({b"iinf", b"iloc", b"iref", b"ipma"})


def _check_avif(content: bytes) -> None:
    item_bytes, movie_bytes = 0, 0
    for number, (kind, start, end) in enumerate(_boxes(content, 0, len(content))):
        _limit(number, MAX_BOXES, "boxes")
        if kind == b"meta":
            item_bytes += sum(_list_bytes(content, start + 4, end))
        elif kind == b"moov":
            movie_bytes += end - start
        _limit(item_bytes, MAX_ITEM_BYTES, "bytes that list items")
        _limit(movie_bytes, MAX_MOVIE_BYTES, "bytes that list frames")


def _list_bytes(content: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the size of each item list among the boxes, at any depth."""
    for number, (kind, begin, stop) in enumerate(_boxes(content, start, end)):
        _limit(number, MAX_BOXES, "boxes")
        if kind == b"iprp":
            yield from _list_bytes(content, begin, stop)
        elif kind in _LISTS:
            yield stop - begin


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start of the content and the end of each box."""
    while start + 8 <= end:
        size, kind, header = (
            int.from_bytes(content[start : start + 4], "big"),
            content[start + 4 : start + 8],
            8,
        )
        if size == 1:
            size, header = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < header:
            return
        yield kind, start + header, min(start + size, end)
        start += size


def _limit(number: int, maximum: int, parts: str) -> None:
    if number > maximum:
        raise TooMuchWork(f"over {maximum:,} {parts}")


_CHECKS: dict[str, Callable[[bytes], None]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "GIF": _check_gif,
    "PPM": _check_ppm,
    "TIFF": _check_tiff,
    "AVIF": _check_avif,
}
