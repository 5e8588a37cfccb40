"""Makes a folder of bad and odd image files, and says what must become of each.

Nearly every picture consists of four quadrants of plain colours, so that orientation, colour and
cropping show in what is decoded. No two files share their colours, hence none is a duplicate but the
link inside. Everything is computed here; the same files come out every time.
"""

import io
import os
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from darkroom.collection.entries import Outcome

Colour = tuple[int, int, int]
Quadrants = tuple[Colour, Colour, Colour, Colour]
"""Top left, top right, bottom left, bottom right, as displayed."""

WIDTH, HEIGHT = 64, 32
"""Of most pictures; the quadrants fall on the 16 x 16 blocks of JPEG."""

LOSSY = 6
"""Largest difference of a flat colour after lossy coding."""

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Case:
    """One file, and what the whole of ``prepare`` must record of it."""

    kind: str
    """What is odd about the file."""
    path: str
    """Relative to the corpus, with ``/``."""
    outcome: Outcome
    outcome_with_tiff: Outcome
    """The same where ``prepare.tiff`` is true."""
    width: int = 0
    """As displayed, in pixels, of those that are used."""
    height: int = 0
    quadrants: Quadrants | None = None
    """None: not used, or of a content that nobody promises."""
    tolerance: int = 0
    animated: bool = False
    reaches_decoder: bool = True
    """False: decided by the name or the kind of file, before a byte is read."""
    is_bomb: bool = False

    def expected(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns RGB ``(height, width, 3)``, and a mask of what lies away from the quadrants' edges."""
        assert self.quadrants is not None
        rows, columns = np.arange(self.height), np.arange(self.width)
        index = 2 * (rows >= self.height / 2)[:, None] + (columns >= self.width / 2)
        near = [
            abs(axis + 0.5 - len(axis) / 2) < (6 if len(axis) >= 16 else 0) for axis in (rows, columns)
        ]
        return np.array(self.quadrants)[index], ~(near[0][:, None] | near[1])


@dataclass
class _Builder:
    folder: Path
    cases: list[Case] = field(default_factory=list)

    def colours(self) -> Quadrants:
        """Returns four colours that no other case has, far from each other."""
        random = np.random.default_rng(len(self.cases))
        while True:
            colours = random.integers(10, 246, (4, 3))
            distances = np.abs(colours[:, None] - colours).max(2) + 255 * np.eye(4)
            if distances.min() > 60:
                return tuple(tuple(int(part) for part in colour) for colour in colours)  # type: ignore[return-value]

    def greys(self) -> Quadrants:
        levels = np.random.default_rng(len(self.cases)).permutation(np.arange(12, 250, 9))[:4]
        return tuple((int(level),) * 3 for level in levels)  # type: ignore[return-value]

    def path(self, name: str) -> str:
        """Puts every other file into each of two class folders."""
        return f"{('left', 'right')[len(self.cases) % 2]}/{name}"

    def file(self, kind: str, name: str, content: bytes, outcome: Outcome, **facts: Any) -> None:
        path = facts.pop("path", None) or self.path(name)
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)
        facts.setdefault("outcome_with_tiff", outcome)
        self.cases.append(Case(kind, path, outcome, **facts))

    def used(
        self,
        kind: str,
        name: str,
        content: bytes,
        quadrants: Quadrants | None,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        **facts: Any,
    ) -> None:
        facts = {"width": size[0], "height": size[1], "quadrants": quadrants} | facts
        self.file(kind, name, content, "used", **facts)

    def tiff(self, kind: str, name: str, content: bytes, with_tiff: Outcome, **facts: Any) -> None:
        if with_tiff == "used":
            facts = {"width": WIDTH, "height": HEIGHT} | facts
        self.file(kind, name, content, "not an image", outcome_with_tiff=with_tiff, **facts)


def make_corpus(folder: Path) -> list[Case]:
    """Writes the files into class folders below ``folder``, which must be empty.

    Beside what it returns it makes a folder named like an image, which is no file, and
    ``<folder>-outside.png``, to which a link leads.
    """
    builder = _Builder(folder)
    for add in (_jpeg, _png, _broken_png, _gif, _webp, _bmp, _ppm, _avif, _tiff, _sizes, _bombs):
        add(builder)
    for add in (_no_images, _names, _links, _beside_images):
        add(builder)
    (folder / "left/looks like an image.jpg").mkdir()
    return builder.cases


# How pictures are made


def levels(quadrants: Quadrants, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.uint8]:
    """Returns RGB ``(height, width, 3)``."""
    case = Case("", "", "used", "used", *size, quadrants=quadrants)
    return case.expected()[0].astype(np.uint8)


def picture(
    quadrants: Quadrants, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Image.Image:
    pixels = levels(quadrants, size)
    return Image.fromarray(pixels if mode == "RGB" else pixels[..., 0])


def stored(quadrants: Quadrants, orientation: int) -> Image.Image:
    """Returns what must be stored for ``quadrants`` to be displayed (EXIF 2.32, tag 0x0112)."""
    shown = levels(quadrants)
    undone = {
        1: lambda: shown,
        2: lambda: shown[:, ::-1],
        3: lambda: shown[::-1, ::-1],
        4: lambda: shown[::-1],
        5: lambda: shown.swapaxes(0, 1),
        6: lambda: np.rot90(shown),
        7: lambda: shown[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(shown, -1),
    }[orientation]()
    return Image.fromarray(np.ascontiguousarray(undone))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def xmp(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>' % orientation
    )


def packed(values: NDArray[Any], bits: int) -> list[bytes]:
    """Packs rows of values of 1, 2, 4 or 8 bits, the first into the highest bits."""
    shifts = np.arange(bits - 1, -1, -1)
    planes = (values[..., None] >> shifts & 1).astype(np.uint8)
    return [row.tobytes() for row in np.packbits(planes.reshape(len(values), -1), axis=1)]


def on_white(quadrants: Quadrants, alpha: int) -> Quadrants:
    rows = [[round(c * alpha / 255 + 255 - alpha) for c in colour] for colour in quadrants]
    return tuple(tuple(row) for row in rows)  # type: ignore[return-value]


def palette_index(size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.uint8]:
    """Returns the number of its quadrant for each pixel, ``(height, width)``."""
    return levels(((0,) * 3, (1,) * 3, (2,) * 3, (3,) * 3), size)[..., 0]  # type: ignore[arg-type]


def index_image(quadrants: Quadrants) -> Image.Image:
    image = Image.fromarray(palette_index(), "P")
    image.putpalette([part for colour in quadrants for part in colour])
    return image


# JPEG


def _jpeg(corpus: _Builder) -> None:
    def add(kind: str, name: str, tolerance: int = LOSSY, **options: Any) -> None:
        colours = corpus.colours()
        content = encoded(picture(colours), "JPEG", **({"quality": 95} | options))
        corpus.used(kind, name, content, colours, tolerance=tolerance)

    add("JPEG", "baseline.jpg")
    add("JPEG, progressive", "progressive.jpg", progressive=True)
    add("JPEG, colours at full resolution", "444.jpg", subsampling=0)
    add("JPEG, restart markers", "restart.jpg", restart_marker_rows=1)
    add("JPEG, RGB without YCbCr", "rgb.jpg", keep_rgb=True)
    add("JPEG, colour profile in three segments", "profile.jpg", icc_profile=bytes(150_000))
    add(
        "JPEG, damaged EXIF",
        "exif-damaged.jpg",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(40)),
    )
    add("JPEG, EXIF of noise", "exif-noise.jpg", exif=b"Exif\0\0" + bytes(range(100, 160)))
    add("JPEG, empty EXIF", "exif-empty.jpg", exif=b"Exif\0\0")
    add("JPEG, an orientation that does not exist", "orientation-9.jpg", exif=exif(9))

    greys = corpus.greys()
    content = encoded(picture(greys, "L"), "JPEG", quality=95)
    corpus.used("JPEG, grey", "grey.jpg", content, greys, tolerance=LOSSY)

    for orientation in range(1, 9):
        colours = corpus.colours()
        content = encoded(stored(colours, orientation), "JPEG", quality=95, exif=exif(orientation))
        name = f"orientation-{orientation}.jpg"
        corpus.used(f"JPEG, EXIF orientation {orientation}", name, content, colours, tolerance=LOSSY)
    colours = corpus.colours()
    content = encoded(stored(colours, 8), "JPEG", quality=95, xmp=xmp(8))
    corpus.used("JPEG, orientation in XMP", "xmp.jpg", content, colours, tolerance=LOSSY)

    colours = corpus.colours()
    cmyk = np.dstack([255 - levels(colours), np.zeros((HEIGHT, WIDTH), np.uint8)])
    content = encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=95)
    assert b"Adobe" in content  # so it is stored inverted
    corpus.used("JPEG, Adobe's inverted CMYK", "cmyk.jpg", content, colours, tolerance=LOSSY)

    colours = corpus.colours()
    corpus.used("JPEG, Adobe's YCCK", "ycck.jpg", _ycck(colours), colours, tolerance=LOSSY)

    def changed(kind: str, name: str, outcome: Outcome, change: Any) -> None:
        colours = corpus.colours()
        content = change(encoded(picture(colours), "JPEG", quality=95))
        size = {"width": WIDTH, "height": HEIGHT, "quadrants": colours} if outcome == "used" else {}
        corpus.file(kind, name, content, outcome, tolerance=LOSSY, **size)

    changed("JPEG, trailing garbage", "garbage.jpg", "used", lambda f: f + b"\0garbage" * 99)
    changed("JPEG, without an end marker", "no-end.jpg", "truncated", lambda f: f[:-2])
    changed("JPEG, cut in its header", "cut-header.jpg", "truncated", lambda f: f[:100])
    changed(
        "JPEG, cut in the middle",
        "cut-middle.jpg",
        "truncated",
        lambda f: f[: f.index(b"\xff\xda") + 40],
    )
    changed("JPEG, only a signature", "signature.jpg", "truncated", lambda f: f[:3])
    changed("JPEG, 12 bits", "12-bit.jpg", "unreadable", lambda f: _sof(f, 0, b"\x0c"))
    changed("JPEG, five channels", "five.jpg", "unreadable", lambda f: _sof(f, 5, b"\x05"))
    changed("JPEG, no height", "no-height.jpg", "unreadable", lambda f: _sof(f, 1, b"\0\0"))
    changed("JPEG, a byte before it", "late.jpg", "not an image", lambda f: b"\n" + f)

    colours, others = corpus.colours(), ((255, 255, 255),) * 4
    two = encoded(picture(colours), "JPEG", quality=95) + encoded(picture(others), "JPEG")
    corpus.used("JPEG, two in one file", "two.jpg", two, colours, tolerance=LOSSY)

    colours = corpus.colours()
    cut = encoded(picture(colours), "JPEG", quality=95)
    cut = cut[: -(len(cut) - cut.index(b"\xff\xda")) // 3] + b"\xff\xd9"
    corpus.used("JPEG, cut and closed again (grey below)", "closed.jpg", cut, None)

    for kind, name, damage in (
        ("MPO, two views", "views.jpg", lambda f: f),
        ("MPO, damaged index", "views-damaged.jpg", lambda f: f.replace(b"MPF\0II*\0", b"MPF\0II*\x07")),
    ):
        colours = corpus.colours()
        image = picture(colours)
        content = damage(
            encoded(image, "MPO", quality=95, save_all=True, append_images=[picture(others)])
        )
        corpus.used(kind, name, content, colours, tolerance=LOSSY)


def _sof(file: bytes, offset: int, value: bytes) -> bytes:
    """Changes the frame header, ``offset`` counted from its precision."""
    start = file.index(b"\xff\xc0") + 4 + offset
    return file[:start] + value + file[start + len(value) :]


def _ycck(colours: Quadrants) -> bytes:
    """Inverted CMYK without black, whose CMY is stored as YCbCr, which Pillow cannot write itself."""
    inverted = Image.fromarray(255 - levels(colours)).convert("YCbCr")
    channels = [255 - np.asarray(inverted), np.zeros((HEIGHT, WIDTH), np.uint8)]
    file = encoded(Image.fromarray(np.dstack(channels), "CMYK"), "JPEG", quality=95)
    transform = file.index(b"Adobe") + 11
    return file[:transform] + b"\2" + file[transform + 1 :]


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int],
    bits: int,
    colour_type: int,
    rows: Sequence[bytes],
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG by hand: rows without their filter byte, chunks before and after the pixels."""
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)),
            *(chunk(*part) for part in before),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            *(chunk(*part) for part in after),
            chunk(b"IEND", b""),
        ]
    )


def adam7(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Returns the rows of an interlaced PNG (its specification, 8.2), which Pillow cannot write."""
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    return [
        row.tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
        if row.size
    ]


def _png(corpus: _Builder) -> None:
    size = (WIDTH, HEIGHT)
    for bits in (1, 2, 4, 8):
        highest = 2**bits - 1
        values = {1: [1, 0, 0, 1], 2: [3, 0, 1, 2], 4: [2, 13, 7, 11], 8: [30, 101, 202, 7]}[bits]
        greys = tuple((value * 255 // highest,) * 3 for value in values)
        rows = packed(np.array(values)[palette_index()], bits)
        corpus.used(f"PNG, grey, {bits} bits", f"grey-{bits}.png", png(size, bits, 0, rows), greys)
        colours = corpus.colours()[: 2**bits]
        colours = (*colours, *colours)[:4]
        rows = packed(palette_index() % min(2**bits, 4), bits)
        palette = [(b"PLTE", bytes(np.array(colours[: 2**bits], np.uint8)))]
        content = png(size, bits, 3, rows, before=palette)
        corpus.used(f"PNG, palette, {bits} bits", f"palette-{bits}.png", content, colours)

    # big-endian 16 bits that are not a multiple of 257; of colour the upper 8 bits are what counts
    for channels, colour_type, name in ((1, 0, "grey"), (2, 4, "LA"), (3, 2, "RGB"), (4, 6, "RGBA")):
        colours = corpus.greys() if channels < 3 else corpus.colours()
        wide = levels(colours).astype(np.uint16)[..., : 1 if channels < 3 else 3] * 257 + 100
        if channels in (2, 4):
            wide = np.dstack([wide, np.full((HEIGHT, WIDTH), 65_535, np.uint16)])
        content = png(size, 16, colour_type, [row.astype(">u2").tobytes() for row in wide])
        corpus.used(f"PNG, {name}, 16 bits a channel", f"16-{name}.png", content, colours, tolerance=1)

    for mode in ("RGB", "LA", "RGBA"):
        colours = corpus.greys() if mode == "LA" else corpus.colours()
        image = picture(colours, "L" if mode == "LA" else "RGB")
        if mode != "RGB":
            image.putalpha(100)
        seen = colours if mode == "RGB" else on_white(colours, 100)
        corpus.used(f"PNG, {mode}", f"{mode}.png", encoded(image, "PNG"), seen, tolerance=1)
    colours = corpus.colours()
    content = png(size, 8, 2, adam7(levels(colours)), interlaced=True)
    corpus.used("PNG, interlaced", "interlaced.png", content, colours)

    white = (255, 255, 255)
    colours = corpus.colours()
    content = encoded(index_image(colours), "PNG", transparency=bytes([255, 0, 255, 100]))
    seen = (colours[0], white, colours[2], on_white(colours, 100)[3])
    corpus.used("PNG, palette with an alpha for each", "alphas.png", content, seen, tolerance=1)
    colours = corpus.colours()
    content = encoded(index_image(colours), "PNG", transparency=2)
    seen = (*colours[:2], white, colours[3])
    corpus.used("PNG, palette with one transparent entry", "entry.png", content, seen)
    colours = corpus.colours()
    rows = [row.tobytes() for row in levels(colours)]
    clear = (b"tRNS", struct.pack(">3H", *colours[1]))
    content = png(size, 8, 2, rows, before=[clear])
    seen = (colours[0], white, *colours[2:])
    corpus.used("PNG, a transparent colour", "colour.png", content, seen)
    for bits in (2, 4, 16):
        highest = 2**bits - 1
        values = np.array({2: [3, 0, 1, 2], 4: [4, 14, 9, 1], 16: [60_000, 999, 30_000, 44_000]}[bits])
        shades = values[palette_index()]
        rows = packed(shades, bits) if bits < 16 else [row.astype(">u2").tobytes() for row in shades]
        content = png(size, bits, 0, rows, before=[(b"tRNS", struct.pack(">H", values[2]))])
        greys = tuple((round(255 * value / highest),) * 3 for value in values.tolist())
        seen = (greys[0], greys[1], white, greys[3])
        corpus.used(f"PNG, a transparent grey of {bits} bits", f"clear-{bits}.png", content, seen)

    others = [picture(((255, 255, 255),) * 4), picture(((0, 0, 0),) * 4)]
    for kind, name, hidden in (("APNG", "a.png", False), ("APNG, its still is no frame", "b.png", True)):
        colours = corpus.colours()
        options = {"save_all": True, "append_images": others, "default_image": hidden}
        content = encoded(picture(colours), "PNG", **options)
        corpus.used(kind, f"animated-{name}", content, colours, animated=True)

    colours = corpus.colours()
    content = encoded(stored(colours, 6), "PNG", exif=exif(6))
    corpus.used("PNG, EXIF orientation", "exif.png", content, colours)
    colours = corpus.colours()
    rows = [row.tobytes() for row in np.asarray(stored(colours, 6))]
    late = [(b"eXIf", exif(6).tobytes()[6:])]
    content = png((HEIGHT, WIDTH), 8, 2, rows, after=late)
    corpus.used("PNG, EXIF orientation behind the pixels", "exif-late.png", content, colours)

    colours = corpus.colours()
    content = encoded(picture(colours), "PNG", exif=b"Exif\0\0noise and no tags")
    corpus.used("PNG, EXIF of noise", "exif-noise.png", content, colours)

    def plain(kind: str, name: str, change: Any = lambda f: f, **parts: Any) -> None:
        colours = corpus.colours()
        rows = [row.tobytes() for row in levels(colours)]
        corpus.used(kind, name, change(png(size, 8, 2, rows, **parts)), colours)

    plain(
        "PNG, text and gamma",
        "text.png",
        before=[(b"gAMA", b"\0\0\xb1\x8f"), (b"tEXt", b"Comment\0hello")],
    )
    plain("PNG, unknown chunks", "unknown.png", before=[(b"abCd", b"x" * 50)], after=[(b"zzZz", b"y")])
    plain("PNG, an archive behind it", "zip.png", lambda f: f + b"PK\3\4" + bytes(200))
    plain("PNG, without its end", "no-end.png", lambda f: f[:-12])
    plain("PNG, wrong checksum of sound pixels", "crc-idat.png", lambda f: _break_crc(f, b"IDAT"))


def _break_crc(file: bytes, kind: bytes) -> bytes:
    start = file.index(kind)
    end = start + 4 + int.from_bytes(file[start - 4 : start], "big")
    return file[:end] + bytes([file[end] ^ 1]) + file[end + 1 :]


def _broken_png(corpus: _Builder) -> None:
    size = (WIDTH, HEIGHT)
    rows = [row.tobytes() for row in levels(corpus.colours())]
    whole = png(size, 8, 2, rows, before=[(b"tEXt", b"Comment\0hello")])
    pixels = whole.index(b"IDAT") + 10
    damaged = whole[:pixels] + bytes([whole[pixels] ^ 255]) + whole[pixels + 1 :]
    huge = zlib.compress(bytes(50_000_000), 9)
    interlaced = png(size, 8, 2, adam7(levels(corpus.colours()))[:-3], interlaced=True)
    for kind, name, content, outcome in (
        ("PNG, wrong checksum of its header", "crc-ihdr.png", _break_crc(whole, b"IHDR"), "unreadable"),
        ("PNG, wrong checksum of a text", "crc-text.png", _break_crc(whole, b"tEXt"), "unreadable"),
        ("PNG, damaged pixels", "damaged.png", damaged, "unreadable"),
        ("PNG, 3 bits, which is not allowed", "3-bit.png", png(size, 3, 0, rows), "unreadable"),
        ("PNG, no width", "no-width.png", png((0, HEIGHT), 8, 2, rows), "unreadable"),
        (
            "PNG, no pixels",
            "no-pixels.png",
            png(size, 8, 2, [])[:33] + chunk(b"IEND", b""),
            "unreadable",
        ),
        ("PNG, only a signature", "signature.png", whole[:8], "truncated"),
        ("PNG, cut in its header", "cut-header.png", whole[:20], "truncated"),
        ("PNG, cut between chunks", "cut-chunks.png", whole[:33], "truncated"),
        ("PNG, cut in its pixels", "cut-pixels.png", whole[: pixels + 20], "truncated"),
        ("PNG, fewer rows than it says", "few-rows.png", png(size, 8, 2, rows[:20]), "truncated"),
        ("PNG, interlaced, fewer rows", "few-rows-interlaced.png", interlaced, "truncated"),
        (
            "PNG, a text of 50 MB",
            "ztxt.png",
            png(size, 8, 2, rows, [(b"zTXt", b"a\0\0" + huge)]),
            "unreadable",
        ),
        (
            "PNG, an international text of 50 MB",
            "itxt.png",
            png(size, 8, 2, rows, [(b"iTXt", b"a\0\1\0\0\0" + huge)]),
            "unreadable",
        ),
        (
            "PNG, a colour profile of 50 MB",
            "iccp.png",
            png(size, 8, 2, rows, [(b"iCCP", b"a\0\0" + huge)]),
            "unreadable",
        ),
    ):
        corpus.file(kind, name, content, outcome, is_bomb=huge in content)


# GIF


def gif(
    colours: Quadrants,
    screen: tuple[int, int] = (WIDTH, HEIGHT),
    frame: tuple[int, int, int, int] = (0, 0, WIDTH, HEIGHT),
    extension: bytes = b"",
    version: bytes = b"GIF89a",
    indices: NDArray[Any] | None = None,
) -> bytes:
    """A GIF by hand; ``frame`` is left, top, width, height; ``indices`` are its pixels."""
    indices = palette_index() if indices is None else indices
    # before every pixel the table is cleared, so that all codes have 3 bits
    codes = [code for index in indices.ravel().tolist() for code in (4, index)] + [5]
    bits = sum(code << 3 * position for position, code in enumerate(codes))
    data = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    blocks = b"".join(
        bytes([len(block)]) + block for block in (data[i : i + 255] for i in range(0, len(data), 255))
    )
    return b"".join(
        [
            version,
            struct.pack("<HHBBB", *screen, 0x81, 0, 0),
            bytes(np.array(colours, np.uint8)),
            extension,
            b"," + struct.pack("<HHHHB", *frame, 0),
            b"\2" + blocks + b"\0;",
        ]
    )


def _control(flags: int, transparent: int = 0) -> bytes:
    return b"!\xf9\4" + bytes([flags, 0, 0, transparent]) + b"\0"


def _gif(corpus: _Builder) -> None:
    for kind, name, options in (
        ("GIF", "89a.gif", {}),
        ("GIF of 1987", "87a.gif", {"version": b"GIF87a"}),
        ("GIF, a comment", "comment.gif", {"extension": b"!\xfe\5hello\0"}),
    ):
        colours = corpus.colours()
        corpus.used(kind, name, gif(colours, **options), colours)
    colours = corpus.colours()
    seen = (colours[0], (255, 255, 255), *colours[2:])
    content = gif(colours, extension=_control(1, transparent=1))
    corpus.used("GIF, transparent", "transparent.gif", content, seen)
    colours = corpus.colours()
    content = gif(colours, screen=(8, 8))
    corpus.used("GIF, a frame larger than the screen", "frame.gif", content, colours)
    colours = corpus.colours()
    content = encoded(index_image(colours), "GIF", interlace=1)
    corpus.used("GIF, interlaced", "interlaced.gif", content, colours)
    colours = corpus.colours()
    # what no frame covers is the first colour of the palette
    seen = (colours[0], colours[0], colours[0], colours[3])
    frame = (WIDTH // 2, HEIGHT // 2, WIDTH // 2, HEIGHT // 2)
    content = gif(colours, frame=frame, indices=np.full((HEIGHT // 2, WIDTH // 2), 3))
    corpus.used("GIF, a frame smaller than the screen", "small-frame.gif", content, seen)
    others = [picture(((0, 0, 0),) * 4), picture(((255, 255, 255),) * 4)]
    for kind, name, is_cut in (
        ("GIF, animated", "animated.gif", False),
        ("GIF, its second frame cut", "second-cut.gif", True),
    ):
        colours = corpus.colours()
        frames = {"save_all": True, "append_images": others, "duration": 100}
        content = encoded(index_image(colours), "GIF", **frames)
        second = content.index(b"!\xf9", content.index(b"!\xf9") + 1)
        content = content[: second + 20] if is_cut else content
        corpus.used(kind, name, content, colours, animated=True)

    whole = gif(corpus.colours())
    corpus.file("GIF, cut in its header", "cut-header.gif", whole[:9], "truncated")
    corpus.file("GIF, cut in its pixels", "cut-pixels.gif", whole[: len(whole) // 2], "truncated")
    corpus.file("GIF, no frame", "no-frame.gif", whole[:25] + b";", "truncated")
    short = gif(corpus.colours(), frame=(0, 0, WIDTH, HEIGHT * 2))
    corpus.file("GIF, fewer rows than it says", "few-rows.gif", short, "truncated")


# WebP


def _webp(corpus: _Builder) -> None:
    colours = corpus.colours()
    content = encoded(picture(colours), "WEBP", quality=95)
    corpus.used("WebP", "lossy.webp", content, colours, tolerance=2 * LOSSY)
    colours = corpus.colours()
    content = encoded(picture(colours), "WEBP", lossless=True)
    corpus.used("WebP, lossless", "lossless.webp", content, colours)
    colours = corpus.colours()
    image = picture(colours)
    image.putalpha(100)
    content = encoded(image, "WEBP", lossless=True, exact=True)
    corpus.used("WebP, alpha", "alpha.webp", content, on_white(colours, 100), tolerance=1)
    colours = corpus.colours()
    content = encoded(stored(colours, 7), "WEBP", lossless=True, exif=exif(7))
    corpus.used("WebP, EXIF orientation", "exif.webp", content, colours)
    colours, others = corpus.colours(), [picture(((0, 0, 0),) * 4)]
    options = {"save_all": True, "append_images": others, "lossless": True}
    content = encoded(picture(colours), "WEBP", **options)
    corpus.used("WebP, animated", "animated.webp", content, colours, animated=True)

    whole = encoded(picture(corpus.colours()), "WEBP", quality=95)
    corpus.file("WebP, cut in its header", "cut-header.webp", whole[:16], "truncated")
    corpus.file("WebP, cut in its pixels", "cut-pixels.webp", whole[:-40], "truncated")
    shorter = whole[:4] + struct.pack("<I", len(whole) - 48) + whole[8:-40]
    corpus.file("WebP, cut, with its length corrected", "corrected.webp", shorter, "unreadable")
    sound = b"RIFF" + struct.pack("<I", 40) + b"WEBPVP9 " + bytes(32)
    corpus.file("WebP, an unknown codec", "vp9.webp", sound, "unreadable")


# BMP


def bmp(
    bits: int,
    pixels: bytes,
    palette: bytes = b"",
    height: int = HEIGHT,
    width: int = WIDTH,
    compression: int = 0,
    masks: bytes = b"",
) -> bytes:
    """A BMP by hand, rows from the bottom up unless ``height`` is negative."""
    offset = 14 + 40 + len(masks) + len(palette)
    entries = len(palette) // 4
    return b"".join(
        [
            b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset),
            struct.pack(
                "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, entries, 0
            ),
            masks + palette + pixels,
        ]
    )


def _bgr(colours: Quadrants, padding: int) -> bytes:
    return b"".join(bytes([b, g, r] + [0] * padding) for r, g, b in colours)


def _bmp(corpus: _Builder) -> None:
    upside_down = palette_index()[::-1]
    for bits in (1, 4, 8):
        colours = corpus.colours()
        colours = (*colours[:2], *colours[:2]) if bits == 1 else colours
        palette = _bgr(colours[: 2**bits], padding=1)
        pixels = b"".join(packed(upside_down % 2 if bits == 1 else upside_down, bits))
        corpus.used(f"BMP, {bits} bits", f"{bits}.bmp", bmp(bits, pixels, palette), colours)
    colours = corpus.colours()
    corpus.used("BMP", "24.bmp", bmp(24, levels(colours)[::-1, :, ::-1].tobytes()), colours)
    colours = corpus.colours()
    corpus.used(
        "BMP, top down",
        "top-down.bmp",
        bmp(24, levels(colours)[:, :, ::-1].tobytes(), height=-HEIGHT),
        colours,
    )
    colours = corpus.colours()
    pixels = np.dstack([levels(colours)[::-1, :, ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)])
    corpus.used("BMP, 32 bits, the last of no meaning", "32.bmp", bmp(32, pixels.tobytes()), colours)
    colours = corpus.colours()
    red, green, blue = np.moveaxis(levels(colours)[::-1].astype(np.uint16), 2, 0)
    pixels = (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2")
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    content = bmp(16, pixels.tobytes(), compression=3, masks=masks)
    corpus.used("BMP, 16 bits", "16.bmp", content, colours, tolerance=8)
    colours = corpus.colours()
    image = picture(colours)
    image.putalpha(100)
    content = encoded(image, "BMP")
    corpus.used("BMP, 32 bits, written with alpha", "alpha.bmp", content, colours)
    for bits, compression in ((8, 1), (4, 2)):
        colours = corpus.colours()
        repeated = [0x11 * index if bits == 4 else index for index in range(4)]
        rows = [
            bytes([WIDTH // 2, repeated[bottom], WIDTH // 2, repeated[bottom + 1], 0, 0])
            for bottom in [2] * (HEIGHT // 2) + [0] * (HEIGHT // 2)
        ]
        pixels = b"".join(rows) + b"\0\1"
        content = bmp(bits, pixels, _bgr(colours, 1), compression=compression)
        corpus.used(f"BMP, run lengths, {bits} bits", f"rle-{bits}.bmp", content, colours)
    colours = corpus.colours()
    header = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    pixels = levels(colours)[::-1, :, ::-1].tobytes()
    content = b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + header + pixels
    corpus.used("BMP of OS/2", "os2.bmp", content, colours)

    whole = bmp(24, levels(corpus.colours()).tobytes())
    corpus.file("BMP, cut in its header", "cut-header.bmp", whole[:40], "truncated")
    corpus.file("BMP, cut in its pixels", "cut-pixels.bmp", whole[:-1], "truncated")
    corpus.file(
        "BMP, run lengths that end early",
        "rle-cut.bmp",
        bmp(8, b"\x20\0\0\0", b"\0" * 16, compression=1),
        "truncated",
    )
    corpus.file("BMP, a JPEG inside", "jpeg.bmp", bmp(24, bytes(9), compression=4), "unreadable")
    corpus.file("BMP, 5 bits, which is not allowed", "5.bmp", bmp(5, bytes(4000)), "unreadable")


# PPM


def _ppm(corpus: _Builder) -> None:
    size = f"{WIDTH} {HEIGHT}".encode()

    def plain(values: NDArray[Any]) -> bytes:
        return b"\n".join(b" ".join(b"%d" % value for value in row.ravel().tolist()) for row in values)

    white, black = (255,) * 3, (0,) * 3
    for magic, seen in (("P1", (white, black, black, black)), ("P4", (white, white, black, white))):
        ones = (levels(seen)[..., 0] == 0).astype(np.uint8)  # 1 is black
        content = plain(ones) if magic == "P1" else b"".join(packed(ones, 1))
        content = magic.encode() + b"\n# 1 bit\n" + size + b"\n" + content
        corpus.used(f"PBM, {magic}", f"{magic}.pbm", content, seen)
    for magic, highest, dtype in (
        ("P2", 255, ""),
        ("P2", 1000, ""),
        ("P5", 255, "u1"),
        ("P5", 100, "u1"),
        ("P5", 65_535, ">u2"),
        ("P3", 255, ""),
        ("P6", 255, "u1"),
        ("P6", 65_535, ">u2"),
    ):
        is_colour = magic in ("P3", "P6")
        colours = corpus.colours() if is_colour else corpus.greys()
        exact = levels(colours)[..., : 3 if is_colour else 1] * (highest / 255)
        values = np.round(exact).astype(np.int64)
        content = values.astype(dtype).tobytes() if dtype else plain(values)
        content = magic.encode() + b" " + size + b" %d\n" % highest + content
        tolerance = 2 if highest == 100 else 0
        kind = f"PPM, {magic}, 0..{highest}"
        corpus.used(kind, f"{magic}-{highest}.ppm", content, colours, tolerance=tolerance)
    for kind, name, scale, outcome in (
        ("PFM, fractions 0..1", "fractions.pfm", 1 / 255, "used"),
        ("PFM, fractions above 1", "bright.pfm", 1 / 100, "unreadable"),
        ("PFM, not a number", "nan.pfm", float("nan"), "unreadable"),
    ):
        greys = corpus.greys()
        values = (levels(greys)[::-1, :, 0] * scale).astype("<f4")  # bottom up
        content = b"Pf\n" + size + b"\n-1.0\n" + values.tobytes()
        facts = {"width": WIDTH, "height": HEIGHT, "quadrants": greys} if outcome == "used" else {}
        corpus.file(kind, name, content, outcome, **facts)
    body = levels(corpus.colours()).tobytes()
    corpus.file("PPM, cut in its pixels", "cut.ppm", b"P6 " + size + b" 255\n" + body[:-1], "truncated")
    corpus.file("PPM, plain, cut", "cut-plain.ppm", b"P3 " + size + b" 255\n1 2 3 4", "truncated")
    corpus.file("PPM, cut in its header", "cut-header.ppm", b"P6 " + size[:2], "truncated")
    corpus.file("PPM, words for numbers", "words.ppm", b"P3 " + size + b" 255\none two", "unreadable")
    corpus.file("PPM, values above its maximum", "above.ppm", b"P2 2 1 9\n9 10", "unreadable")


# AVIF


def _avif(corpus: _Builder) -> None:
    def add(kind: str, name: str, image: Image.Image, seen: Quadrants, **options: Any) -> None:
        content = _timeless(encoded(image, "AVIF", **({"quality": 90, "speed": 10} | options)))
        corpus.used(kind, name, content, seen, tolerance=2 * LOSSY, animated="append_images" in options)

    colours = corpus.colours()
    add("AVIF", "colour.avif", picture(colours), colours)
    greys = corpus.greys()
    add("AVIF, grey", "grey.avif", picture(greys, "L"), greys)
    colours = corpus.colours()
    image = picture(colours)
    image.putalpha(100)
    add("AVIF, alpha", "alpha.avif", image, on_white(colours, 100))
    colours = corpus.colours()
    add("AVIF, orientation", "turned.avif", stored(colours, 5), colours, exif=exif(5))
    colours = corpus.colours()
    others = [picture(((0, 0, 0),) * 4)]
    add(
        "AVIF, a sequence",
        "sequence.avif",
        picture(colours),
        colours,
        save_all=True,
        append_images=others,
    )

    whole = encoded(picture(corpus.colours()), "AVIF", speed=10)
    corpus.file("AVIF, cut in its header", "cut-header.avif", whole[:60], "truncated")
    corpus.file("AVIF, cut in its pixels", "cut-pixels.avif", whole[:-30], "truncated")
    pixels = whole.index(b"mdat") + 8
    noise = whole[:pixels] + bytes(b ^ 0xFF for b in whole[pixels:])
    corpus.file("AVIF, damaged pixels", "damaged.avif", noise, "unreadable")


def _timeless(file: bytes) -> bytes:
    """Removes when a sequence was made: two times of 8 bytes in each of three boxes."""
    for box in (b"mvhd\1", b"tkhd\1", b"mdhd\1"):
        head, found, rest = file.partition(box)
        if found:
            file = head + found + rest[:3] + bytes(16) + rest[19:]
    return file


# TIFF, which is read only where it is asked for


def _tiff(corpus: _Builder) -> None:
    def add(
        kind: str,
        name: str,
        image: Image.Image,
        seen: Quadrants | None,
        tolerance: int = 0,
        **options: Any,
    ) -> None:
        content = encoded(image, "TIFF", **options)
        animated = "append_images" in options
        corpus.tiff(kind, name, content, "used", quadrants=seen, tolerance=tolerance, animated=animated)

    for kind, name, options in (
        ("TIFF", "plain.tif", {}),
        ("TIFF, LZW", "lzw.tif", {"compression": "tiff_lzw"}),
        ("TIFF, deflate", "deflate.tif", {"compression": "tiff_adobe_deflate"}),
        ("TIFF, JPEG inside", "jpeg.tif", {"compression": "jpeg", "quality": 95}),
        ("TIFF, many strips", "strips.tif", {"strip_size": 600, "compression": "packbits"}),
        ("BigTIFF", "big.tif", {"big_tiff": True}),
    ):
        colours = corpus.colours()
        add(kind, name, picture(colours), colours, LOSSY if name == "jpeg.tif" else 0, **options)
    colours = corpus.colours()
    add("TIFF, palette", "palette.tif", index_image(colours), colours)
    colours = corpus.colours()
    image = picture(colours)
    image.putalpha(100)
    add("TIFF, alpha", "alpha.tif", image, on_white(colours, 100), 1)
    white, black = (255,) * 3, (0,) * 3
    seen = (black, white, white, white)
    add("TIFF, fax", "fax.tif", picture(seen).convert("1"), seen, compression="group4")
    colours = corpus.colours()
    cmyk = np.dstack([255 - levels(colours), np.zeros((HEIGHT, WIDTH), np.uint8)])
    add("TIFF, CMYK", "cmyk.tif", Image.fromarray(cmyk, "CMYK"), colours)
    colours = corpus.colours()
    add("TIFF, YCbCr", "ycbcr.tif", picture(colours).convert("YCbCr"), colours, 3)
    colours = tuple(tuple(90 + part // 3 for part in colour) for colour in corpus.colours())
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(picture(colours), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert lab is not None
    lab.info.clear()  # a colour profile, with the time
    add("TIFF, L*a*b*", "lab.tif", lab, colours, 3)
    for kind, name, dtype, scale in (
        ("TIFF, 16 bits", "16.tif", np.uint16, 257),
        ("TIFF, 32 bits, values of 16", "32.tif", np.int32, 257),
        ("TIFF, fractions 0..1", "fractions.tif", np.float32, 1 / 255),
    ):
        greys = corpus.greys()
        values = (levels(greys)[..., 0] * np.float64(scale)).astype(dtype)
        add(kind, name, Image.fromarray(values), greys)
    greys = corpus.greys()
    values = (levels(greys)[..., 0].astype(np.uint16) * 257).astype(">u2")
    add("TIFF, 16 bits, big-endian", "16-big-endian.tif", Image.fromarray(values), greys)
    for orientation in (2, 6):
        colours = corpus.colours()
        tags = {ORIENTATION: orientation}
        name = f"turned-{orientation}.tif"
        add(
            f"TIFF, orientation {orientation}",
            name,
            stored(colours, orientation),
            colours,
            tiffinfo=tags,
        )
    colours = corpus.colours()
    options = {"save_all": True, "append_images": [picture(((0, 0, 0),) * 4)]}
    add("TIFF, two pages", "pages.tif", picture(colours), colours, **options)

    def bad(kind: str, name: str, content: bytes, outcome: Outcome) -> None:
        corpus.tiff(kind, name, content, outcome)

    grey = levels(corpus.greys())[..., 0]
    wide = encoded(Image.fromarray(grey.astype(np.int32) * 70_000), "TIFF")
    bad("TIFF, 32 bits, values above 16", "32-wide.tif", wide, "unreadable")
    below = encoded(Image.fromarray(grey.astype(np.float32) - 20), "TIFF")
    bad("TIFF, fractions outside of 0..1", "outside.tif", below, "unreadable")
    whole = encoded(picture(corpus.colours()), "TIFF")
    bad("TIFF, only a header", "header.tif", whole[:8], "truncated")
    bad("TIFF, cut in its tags", "cut-tags.tif", whole[:60], "truncated")
    bad("TIFF, cut in its pixels", "cut-pixels.tif", whole[:-9], "truncated")
    packed_whole = encoded(picture(corpus.colours()), "TIFF", compression="tiff_lzw")
    bad(
        "TIFF, LZW, its tags cut off", "cut-lzw.tif", packed_whole[: len(packed_whole) // 2], "truncated"
    )
    away = _tiff_tag(packed_whole, 273, len(packed_whole))
    bad("TIFF, LZW, its pixels behind the end", "away.tif", away, "truncated")
    many = _tiff_tag(whole, 277, 60_000)
    bad("TIFF, 60,000 channels", "channels.tif", many, "unreadable")
    bad("TIFF, fewer strips than rows", "few-strips.tif", _tiff_tag(whole, 257, 4 * HEIGHT), "truncated")
    bad("TIFF, an unknown compression", "compression.tif", _tiff_tag(whole, 259, 777), "unreadable")
    bomb = _tiff_tag(_tiff_tag(whole, 256, 60_000), 257, 60_000)
    corpus.tiff("TIFF of 60,000 x 60,000", "bomb.tif", bomb, "too large", is_bomb=True)


def _tiff_tag(file: bytes, tag: int, value: int) -> bytes:
    """Changes a number in the first directory of a little-endian TIFF."""
    start = int.from_bytes(file[4:8], "little") + 2
    while int.from_bytes(file[start : start + 2], "little") != tag:
        start += 12
    is_short = file[start + 2] == 3
    return file[: start + 8] + struct.pack("<Hxx" if is_short else "<I", value) + file[start + 12 :]


# Sizes


def _sizes(corpus: _Builder) -> None:
    for size in ((1, 1), (1, 5000), (5000, 1), (2, 2), (3, 700)):
        colour = corpus.colours()[0]
        content = encoded(Image.new("RGB", size, colour), "PNG")
        name = "{}x{}.png".format(*size)
        corpus.used("{} x {} pixels".format(*size), name, content, (colour,) * 4, size=size)
    for format, size in (
        ("JPEG", (1, 1)),
        ("WEBP", (1, 1)),
        ("AVIF", (1, 1)),
        ("GIF", (1, 1)),
        ("BMP", (1, 1)),
    ):
        colour = corpus.greys()[0]
        content = encoded(Image.new("L", size, colour[0]), format)
        kind = f"{format} of one pixel"
        corpus.used(
            kind, f"pixel.{format.lower()}", content, (colour,) * 4, size=size, tolerance=2 * LOSSY
        )
    colours = corpus.colours()
    content = encoded(picture(colours, size=(2048, 1600)), "PNG")
    corpus.used("2048 x 1600 pixels", "large.png", content, colours, size=(2048, 1600))


def _bombs(corpus: _Builder) -> None:
    for num_rows, outcome in ((99, "used"), (1000, "too large")):
        skips = bmp(8, b"\0\2\xff\xff" * 400, bytes(1024), num_rows, 100_000, compression=1)
        kind = f"BMP, run lengths that skip {num_rows} x 100,000 pixels"
        size = {"width": 100_000, "height": num_rows} if outcome == "used" else {}
        corpus.file(kind, f"bomb-skips-{num_rows}.bmp", skips, outcome, is_bomb=True, **size)
    canvas = struct.pack("<I", 16_382)[:3] * 2
    webp = bytearray(
        encoded(
            picture(corpus.colours()), "WEBP", save_all=True, append_images=[picture(corpus.greys())]
        )
    )
    webp[24:30] = canvas
    clear = _control(8)  # "restore to background" takes memory for the frame
    for kind, name, content, outcome in (
        (
            "PNG of 50,000 x 50,000",
            "bomb.png",
            png((50_000, 50_000), 8, 2, [bytes(100_000)]),
            "too large",
        ),
        ("PNG of 1 x 2,000,000,000", "long.png", png((1, 2_000_000_000), 1, 0, [bytes(9)]), "too large"),
        ("PNG of 11,000 x 11,000", "above.png", png((11_000, 11_000), 8, 0, [bytes(9)]), "too large"),
        (
            "PNG of 10,000 x 10,000 without pixels",
            "below.png",
            png((10_000, 10_000), 8, 6, [bytes(9)]),
            "truncated",
        ),
        (
            "BMP of 60,000 x 60,000",
            "bomb.bmp",
            bmp(24, bytes(9), width=60_000, height=60_000),
            "too large",
        ),
        (
            "GIF with a screen of 65,535 x 65,535",
            "screen.gif",
            gif(corpus.colours(), screen=(65_535,) * 2),
            "too large",
        ),
        (
            "GIF with a frame of 65,535 x 65,535",
            "frame.gif",
            gif(corpus.colours(), frame=(0, 0, 65_535, 65_535)),
            "too large",
        ),
        (
            "GIF that clears 65,535 x 65,535",
            "clears.gif",
            gif(corpus.colours(), frame=(0, 0, 65_535, 65_535), extension=clear),
            "too large",
        ),
        ("WebP with a canvas of 16,383 x 16,383", "canvas.webp", bytes(webp), "too large"),
        ("PPM of 60,000 x 60,000", "bomb.ppm", b"P6 60000 60000 255\n" + bytes(99), "too large"),
        (
            "PPM of 10,000 x 10,000 without pixels",
            "short.ppm",
            b"P5 10000 10000 255\n" + bytes(99),
            "truncated",
        ),
        (
            "JPEG of 65,000 x 65,000",
            "bomb.jpg",
            _sof(encoded(picture(corpus.colours()), "JPEG"), 1, struct.pack(">HH", 65_000, 65_000)),
            "too large",
        ),
        (
            "AVIF that says 50,000 x 50,000",
            "bomb.avif",
            _avif_size(encoded(picture(corpus.colours()), "AVIF"), 50_000),
            "unreadable",
        ),
    ):
        corpus.file(kind, f"bomb-{name}", content, outcome, is_bomb=True)


def _avif_size(file: bytes, side: int) -> bytes:
    start = file.index(b"ispe") + 8
    return file[:start] + struct.pack(">II", side, side) + file[start + 8 :]


# Files that are no images, and files with odd names


def _no_images(corpus: _Builder) -> None:
    corpus.file("empty", "empty.jpg", b"", "empty")
    corpus.file("empty, without an extension", "nothing", b"", "empty")
    heic = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(300)
    for kind, name, content in (
        ("zeros", "zeros.jpg", bytes(5000)),
        ("one byte", "byte.png", b"\x89"),
        ("noise", "noise.jpg", np.random.default_rng(0).bytes(3000)),
        ("text", "text.jpg", b"label,path\ncat,1.jpg\n" * 20),
        ("text that begins like a BMP", "bmw.jpg", b"BMW and other makes of cars, a list\n" * 9),
        ("text that begins like a PPM", "p3.jpg", b"P3 players, a list\n" * 9),
        ("HTML", "not found.jpg", b"<!DOCTYPE html><title>404</title><p>Image not found" * 9),
        ("SVG", "drawing.jpg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
        ("PDF", "scan.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"),
        ("ZIP", "archive.jpg", b"PK\3\4\x14\0\0\0" + bytes(200)),
        ("gzip", "packed.jpg", b"\x1f\x8b\x08" + bytes(60)),
        ("HEIC", "phone.heic", heic),
        ("video", "video.jpg", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(300)),
        ("JPEG 2000", "wavelet.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(300)),
        ("JPEG XL", "xl.jxl", b"\xff\x0a" + bytes(300)),
        ("Photoshop", "layers.psd", b"8BPS\0\1" + bytes(300)),
        ("icon", "icon.ico", b"\0\0\1\0\1\0" + bytes(300)),
        ("sound", "sound.wav", b"RIFF\x24\1\0\0WAVEfmt " + bytes(284)),
        ("Git LFS pointer", "pointer.jpg", b"version https://git-lfs.github.com/spec/v1\nsize 9\n"),
    ):
        corpus.file(kind, name, content, "not an image")


def _names(corpus: _Builder) -> None:
    cafe = "caf\u00e9"
    for kind, name, format in (
        ("a JPEG named .png", "wrong.png", "JPEG"),
        ("a PNG named .jpg", "wrong.jpg", "PNG"),
        ("a WebP named .jpeg", "wrong.jpeg", "WEBP"),
        ("a PNG named .txt", "notes.txt", "PNG"),
        ("no extension", "IMG_0001", "JPEG"),
        ("an extension in capitals", "IMG_0002.JPG", "JPEG"),
        ("two extensions", "photo.jpg.png", "PNG"),
        ("spaces in the name", "  two  spaces .png", "PNG"),
        ("accents, composed", unicodedata.normalize("NFC", cafe) + ".png", "PNG"),
        ("accents, decomposed", unicodedata.normalize("NFD", cafe) + ".png", "PNG"),
        ("an emoji in the name", "\U0001f984\u200d.png", "PNG"),
        ("letters from right to left", "\u05ea\u05de\u05d5\u05e0\u05d4.png", "PNG"),
        ("a newline in the name", "two\nlines.png", "PNG"),
        ("a leading dash", "-rf.png", "PNG"),
        ("quotes, commas and a percent sign", "a\"b',;%20.png", "PNG"),
        ("a backslash", "back\\slash.png", "PNG"),
        ("a star and a question mark", "what*?[1].png", "PNG"),
        ("200 letters", "x" * 196 + ".png", "PNG"),
        ("NA for a name", "NA", "PNG"),
    ):
        colours = corpus.colours()
        content = encoded(picture(colours), format, quality=95)
        corpus.used(kind, name, content, colours, tolerance=0 if format == "PNG" else 2 * LOSSY)
    hidden = encoded(picture(corpus.colours()), "PNG")
    for kind, name, content in (
        ("what macOS leaves on other disks", "._photo.jpg", b"\0\5\x16\7" + bytes(100)),
        ("what macOS leaves in folders", ".DS_Store", b"\0\0\0\1Bud1" + bytes(100)),
        ("what Windows leaves", "Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(100)),
        ("what Windows leaves for a folder", "desktop.ini", b"[.ShellClassInfo]"),
        ("a hidden image", ".secret.png", hidden),
        ("an image in a hidden folder", ".cache/photo.png", hidden),
        ("an image in a folder that macOS packs", "__MACOSX/photo.png", hidden),
    ):
        corpus.file(kind, name, content, "hidden", reaches_decoder=False)
    raw = os.fsencode(corpus.folder / corpus.path("latin-")) + b"\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(hidden)
    path = corpus.path("latin-\\xe9.png")
    corpus.cases.append(
        Case("a name that is not UTF-8", path, "unreadable", "unreadable", reaches_decoder=False)
    )


def _links(corpus: _Builder) -> None:
    def add(kind: str, name: str, outcome: Outcome, target: str | Path) -> None:
        path = corpus.path(name)
        (corpus.folder / path).symlink_to(target)
        corpus.cases.append(Case(kind, path, outcome, outcome, reaches_decoder=False))

    inside = next(case for case in corpus.cases if case.kind == "PNG, RGB")
    path = inside.path.replace("RGB", "link")  # beside it: the same pixels have the same label
    (corpus.folder / path).symlink_to(Path(inside.path).name)
    corpus.cases.append(replace(inside, kind="a link inside", path=path))
    outside = corpus.folder.with_name(f"{corpus.folder.name}-outside.png")
    outside.write_bytes(encoded(picture(corpus.colours()), "PNG"))
    add("a link out", "link-out.png", "outside", outside)
    add("a link out by a relative path", "link-up.png", "outside", f"../../{outside.name}")
    add("a broken link", "link-nowhere.png", "missing", "no such file.png")
    add("a link to itself", "link-itself.png", "missing", "link-itself.png")
    path = corpus.path("pipe.png")
    os.mkfifo(corpus.folder / path)
    corpus.cases.append(Case("a pipe", path, "unreadable", "unreadable", reaches_decoder=False))
    if os.geteuid() != 0:  # who may read everything
        content = encoded(picture(corpus.colours()), "PNG")
        corpus.file("no permission", "secret.png", content, "unreadable", reaches_decoder=False)
        (corpus.folder / corpus.cases[-1].path).chmod(0)


def _beside_images(corpus: _Builder) -> None:
    """What systems leave behind, in any case, and files that describe images."""
    thumbnail = encoded(picture(corpus.colours()), "JPEG")
    for name in (
        "THUMBS.DB",
        "Desktop.ini",
        "ehthumbs.db",
        "Icon\r",
        "@eaDir/photo.jpg/SYNOFILE_THUMB_M.jpg",
        "@eadir/photo.jpg/SYNOFILE_THUMB_S.jpg",
        "lost+found/photo.jpg",
        "__macosx/photo.jpg",
        "$RECYCLE.BIN/photo.jpg",
        "System Volume Information/photo.jpg",
        ".Spotlight-V100/photo.jpg",
        ".Trashes/photo.jpg",
        ".git/photo.jpg",
        ".ipynb_checkpoints/photo.jpg",
        "photo.jpg:Zone.Identifier",
    ):
        corpus.file(f"left behind: {name}", name, thumbnail, "hidden", reaches_decoder=False)
    for name, content in (
        ("labels.csv", b"path,label\n1.png,left\n"),
        ("photo.txt", b"0 0.5 0.5 1 1\n"),
        ("background.txt", b""),
        ("photo.JSON", b"{}"),
        ("photo.xml", b"<annotation/>"),
        ("left.idx", bytes(100)),
        ("photo.yaml", b"a: 1"),
        ("photo.xmp", b"<x:xmpmeta/>"),
        ("IMG_0001.AAE", b"<plist/>"),
        ("left.lst", b"0\t0\tphoto.png\n"),
        ("README", b"words"),
    ):
        corpus.file(f"beside images: {name}", name, content, "sidecar", reaches_decoder=False)
    for name, content in (("photo.txt.bak", b"words"), ("csv", b"a,b"), ("photo.svg", b"<svg/>")):
        corpus.file(f"no sidecar: {name}", name, content, "not an image")
