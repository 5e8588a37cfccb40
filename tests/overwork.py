"""Makes image files that are small, or of an ordinary size, and would keep a decoder busy for ever.

Each maker takes how much of the trick to play, so that the same file can be made harmless.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

Maker = Callable[[int], bytes]


def jpeg(size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    """Returns an ordinary JPEG of a gradient."""
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with_scans(num_scans: int, size: tuple[int, int] = (8000, 8000)) -> bytes:
    """A progressive JPEG whose first component is refined again and again by scans that say nothing."""
    frame = struct.pack(">BHHB", 8, size[1], size[0], 1) + bytes([1, 0x11, 0])
    table = bytes([0x00, 0, 1, *[0] * 14, 0])  # DC: one code of two bits, for "no difference"
    ac = bytes([0x10, 0, 1, *[0] * 14, 0xE0])  # AC: one code of two bits, a run of 2**14 blocks
    start = b"\xff\xd8" + segment(0xDB, bytes([0] + [1] * 64)) + segment(0xC2, frame)
    start += segment(0xC4, table) + segment(0xC4, ac)
    num_blocks = (-(-size[0] // 8)) * (-(-size[1] // 8))
    dc = segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0x00])) + bytes(num_blocks // 4 + 1)
    run = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0x00])) + bytes(2 * (num_blocks // 2**14 + 1) + 1)
    return start + dc + run * (num_scans - 1) + b"\xff\xd9"


def jpeg_with_sequential_scans(num_scans: int, size: tuple[int, int] = (1500, 1500)) -> bytes:
    """A sequential JPEG, whose one component is sent again and again."""
    parts = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    frame = struct.pack(">BHHB", 8, size[1], size[0], 3) + parts
    start = b"\xff\xd8" + segment(0xDB, bytes([0] + [1] * 64)) + segment(0xC0, frame)
    start += segment(0xC4, bytes([0x00, 0, 1, *[0] * 14, 0]))
    start += segment(0xC4, bytes([0x10, 0, 1, *[0] * 14, 0]))
    num_blocks = (-(-size[0] // 8)) * (-(-size[1] // 8))
    scan = segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0x00])) + bytes(num_blocks // 2 + 1)
    return start + scan * num_scans + b"\xff\xd9"


def jpeg_with_segments(num_segments: int, marker: int = 0xE5, content: bytes = b"") -> bytes:
    start = jpeg()
    return start[:2] + segment(marker, content) * num_segments + start[2:]


def jpeg_with_exif(num_segments: int) -> bytes:
    """EXIF in many segments, which Pillow joins one by one."""
    return jpeg_with_segments(num_segments, 0xE1, b"Exif\0\0" + bytes(65_000))


def jpeg_with_junk(num_bytes: int) -> bytes:
    """Bytes between two segments that no marker begins."""
    start = jpeg()
    return start[:2] + segment(0xFE, b"") + bytes(num_bytes) + start[2:]


def jpeg_with_padding(num_bytes: int) -> bytes:
    start = jpeg()
    return start[:2] + b"\xff" * num_bytes + start[2:]


def jpeg_with_segments_between_scans(num_segments: int) -> bytes:
    content = jpeg(progressive=True)
    second = content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    return content[:second] + segment(0xFE, b"") * num_segments + content[second:]


def exif_directory(num_entries: int, num_bytes: int) -> bytes:
    """An EXIF directory of many entries, which all have the same bytes as their value."""
    head = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", num_entries)
    body = b"".join(
        struct.pack("<HHLL", 40_000 + entry, 7, num_bytes, 0) for entry in range(num_entries)
    )
    return head + body + bytes(4)


def jpeg_with_exif_entries(num_entries: int) -> bytes:
    content = exif_directory(num_entries, 60_000)
    return jpeg_with_segments(1, 0xE1, content + bytes(65_000 - len(content)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))
    )


def png_with(chunks: bytes, size: tuple[int, int] = (8, 8), after: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", *size, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((size[0] + 1) * size[1]))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def png_with_chunks(number: int) -> bytes:
    return png_with(chunk(b"prIv", b"") * number)


def png_with_chunks_at_its_end(number: int) -> bytes:
    return png_with(b"", after=chunk(b"prIv", b"") * number)


def png_with_texts(number: int) -> bytes:
    return png_with(b"".join(chunk(b"tEXt", b"k%d\0v" % index) for index in range(number)))


def png_with_text_bombs(number: int) -> bytes:
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))
    return png_with(bomb * number)


def png_with_profile_bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()
    return png_with(chunk(b"iCCP", b"p\0\0" + packed))


def png_with_tiny_pixels(number: int) -> bytes:
    """The pixels in pieces of no bytes, and then at last all."""
    return png_with(chunk(b"IDAT", b"") * number)


def png_with_empty_blocks(number: int) -> bytes:
    """Pixels packed with many blocks that hold nothing."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", 8, 8, 8, 0, 0, 0, 0))
    packed = zlib.compress(bytes(72))
    pixels = packed[:2] + b"\0\0\0\xff\xff" * number + packed[2:]
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif_with(before: bytes, after: bytes = b"") -> bytes:
    file = io.BytesIO()
    Image.new("P", (8, 8), 1).save(file, "GIF")
    content = file.getvalue()
    start = content.index(b",\0\0\0\0", 13 + 3)
    return b"GIF89a" + content[6:start] + before + content[start:-1] + after + b";"


def gif_with_comment(number: int) -> bytes:
    """A comment in pieces of 255 bytes, which Pillow joins one by one."""
    return gif_with(b"!\xfe" + (b"\xff" + b"c" * 255) * number + b"\0")


def gif_with_comments(number: int) -> bytes:
    return gif_with(b"!\xfe\x01c\0" * number)


def gif_with_extensions(number: int) -> bytes:
    return gif_with(b"!\x01\x01c\0" * number)


def gif_with_blocks(number: int) -> bytes:
    """An extension of blocks of one byte behind the first frame."""
    return gif_with(b"", b"!\x01" + b"\x01c" * number + b"\0")


def gif_with_frames(number: int) -> bytes:
    return gif_with(b"", b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0" * number)


def gif_with_small_pieces(number: int) -> bytes:
    """A frame whose pixels come in blocks of a byte, each of which clears the decoder."""
    content = gif_with(b"")
    start = content.index(b",\0\0\0\0", 13 + 3) + 10
    start += 1  # the width of codes
    return content[:start] + b"\x01\x80" * number + content[start:]


def ppm_with_comment(num_bytes: int) -> bytes:
    return b"P6\n#" + b"c" * num_bytes + b"\n2 2\n255\n" + bytes(12)


def ppm_with_blanks(num_bytes: int) -> bytes:
    return b"P6\n" + b" " * num_bytes + b"2 2\n255\n" + bytes(12)


def plain_ppm_with_comments(number: int) -> bytes:
    return b"P3\n2 2\n255\n" + b"#\n" * number + b"0 1 2 3 4 5 6 7 8 9 10 11\n"


def plain_ppm_with_blanks(num_bytes: int) -> bytes:
    return b"P3\n2 2\n255\n" + b" " * num_bytes + b"0 1 2 3 4 5 6 7 8 9 10 11\n"


def plain_ppm(num_pixels: int) -> bytes:
    return b"P2\n%d %d\n255\n" % (1000, num_pixels // 1000) + b"7 " * num_pixels


def plain_bits(num_pixels: int) -> bytes:
    return b"P1\n%d %d\n" % (1000, num_pixels // 1000) + b"1" * num_pixels


def bmp_with_runs(pieces: bytes, size: tuple[int, int] = (64, 64)) -> bytes:
    palette = bytes(1024)
    offset = 14 + 40 + len(palette)
    info = struct.pack("<LllHHLLllLL", 40, *size, 1, 8, 1, len(pieces), 0, 0, 256, 0)
    return struct.pack("<2sLHHL", b"BM", offset + len(pieces), 0, 0, offset) + info + palette + pieces


def bmp_with_line_ends(number: int) -> bytes:
    """Ends of a line that has not begun."""
    return bmp_with_runs(b"\0\0" * number + b"\x40\0\0\0" * 64)


def bmp_with_empty_moves(number: int) -> bytes:
    return bmp_with_runs(b"\0\2\0\0" * number + b"\x40\0\0\0" * 64)


def bmp_with_runs_of_full_lines(number: int) -> bytes:
    """Runs behind the end of their line, which leave no pixel."""
    return bmp_with_runs(b"\x40\0" + b"\xff\0" * number)


def tiff(
    entries: list[tuple[int, int, int, bytes]], pixels: bytes = b"", next_directory: int = 0
) -> bytes:
    """A TIFF of one directory; values longer than 4 bytes follow it."""
    body, extra = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        if len(value) <= 4:
            body += struct.pack("<HHL4s", tag, kind, count, value)
        else:
            body += struct.pack("<HHLL", tag, kind, count, start + len(pixels) + len(extra))
            extra += value
    directory = struct.pack("<H", len(entries)) + body + struct.pack("<L", next_directory)
    return b"II*\0\x08\0\0\0" + directory + pixels + extra


def grey_tiff(
    size: tuple[int, int], offsets: list[int], counts: list[int], rows: int, pixels: bytes
) -> bytes:
    long = struct.Struct("<L").pack
    num = len(offsets)
    return tiff(
        [
            (256, 4, 1, long(size[0])),
            (257, 4, 1, long(size[1])),
            (258, 3, 1, long(8)),
            (259, 3, 1, long(1)),
            (262, 3, 1, long(1)),
            (273, 4, num, struct.pack(f"<{num}L", *offsets)),
            (277, 3, 1, long(1)),
            (278, 4, 1, long(rows)),
            (279, 4, num, struct.pack(f"<{num}L", *counts)),
        ],
        pixels,
    )


def tiff_with_strips(number: int) -> bytes:
    """Each strip is the whole image again."""
    size = (1000, 1000)
    start = 8 + 2 + 12 * 9 + 4
    return grey_tiff(
        size, [start] * number, [size[0] * size[1]] * number, size[1], bytes(size[0] * size[1])
    )


def tiff_with_empty_strips(number: int) -> bytes:
    start = 8 + 2 + 12 * 9 + 4
    return grey_tiff((8, 8), [start] * number, [64] * number, 8, bytes(64))


def tiff_with_directories(number: int) -> bytes:
    """A chain of empty directories."""
    first = grey_tiff((8, 8), [122], [64], 8, bytes(64))
    at = first.index(struct.pack("<L", 0), 8 + 2 + 12 * 9)
    chain = b"".join(
        struct.pack("<HL", 0, len(first) + 6 * (index + 1) if index + 1 < number else 0)
        for index in range(number)
    )
    return first[:at] + struct.pack("<L", len(first)) + first[at + 4 :] + chain


def big_tiff_with_entries(number: int) -> bytes:
    entries = b"".join(struct.pack("<HHQ8s", 40_000 + i % 20_000, 1, 1, b"") for i in range(number))
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, number) + entries + bytes(8)


def tiff_with_values(number: int) -> bytes:
    """One long list of short numbers."""
    return tiff(
        [
            (256, 4, 1, b"\x08\0\0\0"),
            (257, 4, 1, b"\x08\0\0\0"),
            (258, 3, 1, b"\x08\0\0\0"),
            (259, 3, 1, b"\x01\0\0\0"),
            (262, 3, 1, b"\x01\0\0\0"),
            (273, 4, 1, struct.pack("<L", 8 + 2 + 12 * 9 + 4)),
            (278, 4, 1, b"\x08\0\0\0"),
            (279, 4, 1, b"\x40\0\0\0"),
            (40_000, 5, number, bytes(8 * number)),
        ],
        bytes(64),
    )


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<L", len(content)) + content + bytes(len(content) % 2)


def webp_with(chunks: bytes, flags: int = 0x02) -> bytes:
    canvas = bytes([flags, 0, 0, 0]) + bytes([7, 0, 0, 7, 0, 0])
    body = b"WEBP" + webp_chunk(b"VP8X", canvas) + chunks
    return b"RIFF" + struct.pack("<L", len(body)) + body


def _webp_frame() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "WEBP", lossless=True)
    return file.getvalue()[12:]


def webp_with_frames(number: int) -> bytes:
    frame = webp_chunk(b"ANMF", bytes([0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 1, 0, 0, 0]) + _webp_frame())
    return webp_with(webp_chunk(b"ANIM", bytes(6)) + frame * number)


def webp_with_chunks(number: int) -> bytes:
    return webp_with(_webp_frame() + webp_chunk(b"prIv", b"") * number, flags=0)


def avif_with_items(number: int) -> bytes:
    """Thousands of items that nothing refers to."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "AVIF")
    content = file.getvalue()
    meta = content.index(b"meta") - 4
    size = struct.unpack(">L", content[meta : meta + 4])[0]
    items = b"".join(
        box(b"infe", struct.pack(">BxxxHH4sx", 2, 2 + i, 0, b"av01")) for i in range(number)
    )
    iinf = content.index(b"iinf") - 4
    iinf_size = struct.unpack(">L", content[iinf : iinf + 4])[0]
    old = content[iinf + 14 : iinf + iinf_size]
    new = box(b"iinf", struct.pack(">LH", 0, 1 + number) + old + items)
    grown = len(new) - iinf_size
    inside = content[meta + 4 : iinf] + new + content[iinf + iinf_size : meta + size]
    return content[:meta] + struct.pack(">L", size + grown) + inside + content[meta + size :]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content) + 8) + kind + content


def avif_with_boxes(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "AVIF")
    return file.getvalue() + box(b"free", b"") * number


@dataclass(frozen=True)
class Overwork:
    """One trick, and what must become of it."""

    make: Maker
    much: int
    """How much of it is refused, or, without a reason, is measured."""
    reason: str = ""
    """Part of the reason why it is refused; empty: the file is used, because it takes little time."""
    harmless: int | None = None
    """How much of it is accepted; None: nothing of it."""
    for_ever: int = 0
    """How much of it takes seconds or minutes where nothing is bounded; 0: as ``much``."""


OVERWORK: dict[str, Overwork] = {
    "progressive JPEG of many scans": Overwork(
        lambda n: jpeg_with_scans(n, (640, 640)), 101, "over 100 scans", 100
    ),
    "large progressive JPEG of many scans": Overwork(
        jpeg_with_scans, 101, "over 100 scans", None, 2_000
    ),
    "sequential JPEG of many scans": Overwork(
        lambda n: jpeg_with_sequential_scans(n, (640, 640)), 101, "over 100 scans", 100, 2_000
    ),
    "JPEG of empty segments": Overwork(
        jpeg_with_segments, 10_001, "over 10,000 segments", 9_900, 1_000_000
    ),
    "JPEG of comments": Overwork(
        lambda n: jpeg_with_segments(n, 0xFE, b"c"), 10_001, "over 10,000 segments", 9_900, 1_000_000
    ),
    "JPEG of metadata": Overwork(
        lambda n: jpeg_with_segments(n, 0xED, bytes(65_000)), 1_033, "bytes of metadata", 1_000, 8_000
    ),
    "JPEG of EXIF in pieces": Overwork(jpeg_with_exif, 65, "bytes of EXIF", 64, 3_000),
    "JPEG of junk": Overwork(jpeg_with_junk, 1_048_577, "bytes between", 1_000_000, 8_000_000),
    "JPEG of padding": Overwork(jpeg_with_padding, 1_048_577, "bytes between", 1_000_000, 8_000_000),
    "JPEG of segments between scans": Overwork(jpeg_with_segments_between_scans, 100_000),
    "JPEG of EXIF entries": Overwork(jpeg_with_exif_entries, 1, for_ever=5_000),
    "PNG of empty chunks": Overwork(png_with_chunks, 100_000, "over 100,000 chunks", 99_997, 1_000_000),
    "PNG of empty chunks at its end": Overwork(
        png_with_chunks_at_its_end, 100_000, "over 100,000 chunks", 99_997, 1_000_000
    ),
    "PNG of texts": Overwork(png_with_texts, 100_000, "over 100,000 chunks", 99_000, 500_000),
    "PNG of text bombs": Overwork(png_with_text_bombs, 1_001, "compressed texts", 60, 1_001),
    "PNG of a profile bomb": Overwork(png_with_profile_bomb, 20, "Decompressed data too large"),
    "PNG of empty pieces of pixels": Overwork(
        png_with_tiny_pixels, 100_000, "over 100,000 chunks", 99_997, 1_000_000
    ),
    "PNG of empty blocks": Overwork(png_with_empty_blocks, 1_000_000),
    "GIF of a long comment": Overwork(gif_with_comment, 40_000),
    "GIF of comments": Overwork(gif_with_comments, 500_001, "blocks", 1_000, 10_000_000),
    "GIF of extensions": Overwork(gif_with_extensions, 1_000_001, "blocks", 1_000, 10_000_000),
    "GIF of tiny blocks": Overwork(gif_with_blocks, 1_000_001, "blocks", 1_000, 40_000_000),
    "GIF of frames": Overwork(gif_with_frames, 100_000),
    "GIF of tiny pieces of pixels": Overwork(
        gif_with_small_pieces, 1_000_001, "blocks", None, 40_000_000
    ),
    "PPM of a long comment": Overwork(ppm_with_comment, 65_536, "bytes of header", 65_000, 8_000_000),
    "PPM of blanks": Overwork(ppm_with_blanks, 65_536, "bytes of header", 65_000, 8_000_000),
    "plain PPM of comments": Overwork(
        plain_ppm_with_comments, 10_001, "over 10,000 comments", 10_000, 500_000
    ),
    "plain PPM of blanks": Overwork(plain_ppm_with_blanks, 10_000_000),
    "plain PGM of many pixels": Overwork(
        plain_ppm, 20_001_000, "at most 20,000,000 are decoded", 100_000, 40_000_000
    ),
    "plain PBM of many pixels": Overwork(
        plain_bits, 20_001_000, "at most 20,000,000 are decoded", 100_000, 100_000_000
    ),
    "BMP of line ends": Overwork(bmp_with_line_ends, 40_000, "bytes of runs", 1_000, 40_000_000),
    "BMP of moves to nowhere": Overwork(
        bmp_with_empty_moves, 20_000, "bytes of runs", 1_000, 20_000_000
    ),
    "BMP of runs behind a line": Overwork(
        bmp_with_runs_of_full_lines, 40_000, "bytes of runs", None, 20_000_000
    ),
    "TIFF of overlapping strips": Overwork(tiff_with_strips, 10_000),
    "TIFF of tiny overlapping strips": Overwork(tiff_with_empty_strips, 100_000),
    "TIFF of directories": Overwork(tiff_with_directories, 100_000),
    "TIFF of fractions": Overwork(tiff_with_values, 400_000),
    "BigTIFF of entries": Overwork(
        big_tiff_with_entries, 65_537, "entries in its directory", None, 20_000_000
    ),
    "WebP of frames": Overwork(webp_with_frames, 50_000),
    "WebP of chunks": Overwork(webp_with_chunks, 200_000),
    "AVIF of items": Overwork(avif_with_items, 26_000, "bytes that list items", None, 60_000),
    "AVIF of boxes": Overwork(avif_with_boxes, 10_001, "over 10,000 boxes", 9_000, 2_000_000),
}
