"""One image file to pixels: every mode and format, resizing, and files that are not what they say."""

import io
import itertools
import resource
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkroom.data import decode as decode_module
from darkroom.data.decode import MAX_PIXELS, BadImage, PixelLayout, decode, read_header

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (12, 17), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (12, 17, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (12, 17), dtype=np.uint8)
ANY_LAYOUT = PixelLayout(8, 8, 3, "stretch")
UNKNOWN = "not an image of a known format (JPEG, PNG, BMP, GIF, WEBP, PPM)"


def encoded(image: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def layout_like(pixels: NDArray[Any]) -> PixelLayout:
    return PixelLayout(pixels.shape[0], pixels.shape[1], 1 if pixels.ndim == 2 else 3, "stretch")


def pixels_of(file: bytes, layout: PixelLayout) -> NDArray[np.uint8]:
    pixels = decode(file, layout)[1]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (layout.height, layout.width, layout.channels)
    return pixels[..., 0] if layout.channels == 1 else pixels


def bad(file: bytes, layout: PixelLayout = ANY_LAYOUT) -> str:
    with pytest.raises(BadImage) as refused:
        decode(file, layout)
    return str(refused.value)


def png(header: tuple[int, int, int, int], rows: bytes, **chunks: bytes) -> bytes:
    """A PNG by hand: (width, height, bits, colour type), rows with their filter byte, more chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
        + b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# Formats and modes


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("PNG", {"interlace": True})],
)
def test_lossless_formats_give_back_every_pixel(
    format: str, options: dict[str, Any], pixels: NDArray[np.uint8]
) -> None:
    file = encoded(pixels, format, **options)
    assert np.array_equal(pixels_of(file, layout_like(pixels)), pixels)
    header = read_header(file)
    assert (header.width, header.height, header.format) == (17, 12, format)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": 2}], ids=str
)
def test_jpeg_gives_what_its_decoder_gives(options: dict[str, Any]) -> None:
    file = encoded(RGB, "JPEG", **options)
    reference = np.asarray(Image.open(io.BytesIO(file)))
    assert np.array_equal(pixels_of(file, layout_like(RGB)), reference)
    assert not np.array_equal(reference, RGB)  # so it was a lossy file


def test_one_bit_becomes_black_and_white() -> None:
    bits = RANDOM.integers(0, 2, (12, 17)).astype(bool)
    file = encoded(bits)
    assert read_header(file).mode == "1"
    assert np.array_equal(pixels_of(file, layout_like(bits)), np.where(bits, 255, 0))


@pytest.mark.parametrize("bits", [2, 4])
def test_few_grey_levels_are_spread_over_all(bits: int) -> None:
    levels = np.arange(2**bits)
    row = int("".join(f"{level:0{bits}b}" for level in levels), 2)
    file = png((len(levels), 1, bits, 0), b"\0" + row.to_bytes(len(levels) * bits // 8, "big"))
    expected = levels * 255 // (2**bits - 1)
    assert np.array_equal(pixels_of(file, PixelLayout(1, len(levels), 1, "stretch"))[0], expected)


WIDE = np.append(RANDOM.integers(0, 65_536, 202), [0, 65_535]).reshape(12, 17).astype(np.uint16)
WIDE_FILES = {"PNG": encoded(WIDE), "PGM": b"P5 17 12 65535\n" + WIDE.astype(">u2").tobytes()}


@pytest.mark.parametrize("file", WIDE_FILES.values(), ids=WIDE_FILES)
def test_sixteen_bit_grey_is_scaled_and_not_clipped(file: bytes) -> None:
    expected = np.round(WIDE / 257)
    assert np.array_equal(pixels_of(file, layout_like(WIDE)), expected)
    assert not np.array_equal(expected, WIDE.clip(0, 255))
    assert read_header(file).is_grey


def test_sixteen_bit_grey_with_a_transparent_value_is_white_there() -> None:
    values = np.array([0, 257, 30_000, 65_535], ">u2")
    file = png((4, 1, 16, 0), b"\0" + values.tobytes(), tRNS=struct.pack(">H", 257))
    assert pixels_of(file, PixelLayout(1, 4, 1, "stretch"))[0].tolist() == [0, 255, 117, 255]


def test_a_palette_becomes_its_colours() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    image.putdata([3, 2, 1, 0])
    for format in ("PNG", "GIF", "BMP"):
        pixels = pixels_of(encoded(image, format), PixelLayout(1, 4, 3, "stretch"))[0]
        assert pixels.tolist() == [[10, 20, 30], [0, 0, 255], [0, 255, 0], [255, 0, 0]]


def on_white(pixels: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.float64]:
    weight = alpha / 255 if pixels.ndim == 2 else alpha[..., None] / 255
    return pixels * weight + 255 * (1 - weight)


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["LA", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparency_is_composed_on_white(pixels: NDArray[np.uint8], format: str) -> None:
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(ALPHA))
    file = encoded(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    expected = on_white(pixels, ALPHA)
    got = pixels_of(file, layout_like(pixels)).astype(float)
    assert np.abs(got - expected).max() <= 1
    assert np.abs(expected - pixels).max() > 100  # so it mattered


@pytest.mark.parametrize(
    ("image", "transparent"),
    [
        (Image.fromarray(np.array([[7, 200]], np.uint8)), 7),
        (Image.fromarray(np.array([[[7, 8, 9], [200, 200, 200]]], np.uint8)), (7, 8, 9)),
        (Image.fromarray(np.array([[7, 200]], np.uint8)).convert("P"), 7),
    ],
    ids=["L", "RGB", "P"],
)
def test_a_transparent_colour_is_white(image: Image.Image, transparent: Any) -> None:
    layout = PixelLayout(1, 2, 1, "stretch")
    assert pixels_of(encoded(image, transparency=transparent), layout)[0].tolist() == [255, 200]
    assert pixels_of(encoded(image), layout)[0, 0] < 10


def test_a_transparent_gif_is_white_there() -> None:
    image = Image.fromarray(np.array([[7, 200]], np.uint8)).convert("P")
    file = encoded(image, "GIF", transparency=7)
    assert pixels_of(file, PixelLayout(1, 2, 1, "stretch"))[0].tolist() == [255, 200]


@pytest.mark.parametrize(
    ("cmyk", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 255, 0), (0, 255, 0)),
        ((255, 255, 0, 0), (0, 0, 255)),
    ],
)
def test_cmyk_jpeg_becomes_rgb(cmyk: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    file = encoded(Image.new("CMYK", (8, 8), cmyk), "JPEG", quality=100)
    assert read_header(file).mode == "CMYK"
    pixels = pixels_of(file, PixelLayout(8, 8, 3, "stretch")).astype(int)
    assert np.abs(pixels - rgb).max() <= 3


def test_colour_becomes_grey_by_its_luminance_and_grey_becomes_colour() -> None:
    grey = pixels_of(encoded(RGB), PixelLayout(12, 17, 1, "stretch"))
    assert np.abs(grey - RGB @ [0.299, 0.587, 0.114]).max() <= 1  # ITU-R BT.601
    colour = pixels_of(encoded(GREY), PixelLayout(12, 17, 3, "stretch"))
    assert np.array_equal(colour, np.stack([GREY] * 3, axis=2))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    file = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
    assert getattr(Image.open(io.BytesIO(file)), "n_frames", 1) == 3
    pixels = pixels_of(file, PixelLayout(8, 8, 3, "stretch")).astype(int)
    assert np.abs(pixels - colours[0]).max() <= 5


@pytest.mark.parametrize(
    ("image", "is_grey"),
    [
        *((Image.new(mode, (3, 3)), True) for mode in ("1", "L", "LA", "I;16")),
        *((Image.new(mode, (3, 3)), False) for mode in ("P", "RGB", "RGBA")),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_which_modes_are_grey(image: Image.Image, is_grey: bool) -> None:
    assert read_header(encoded(image)).is_grey is is_grey


# Orientation

ORIENTED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),  # clockwise
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}
"""EXIF orientation -> how the stored rows and columns are shown (EXIF 2.32, tag 0x0112)."""


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 100}, 6)],
)
def test_exif_orientation_is_applied(
    orientation: int, format: str, options: dict[str, Any], tolerance: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(GREY, format, exif=exif, **options)
    expected = ORIENTED[orientation](GREY)
    header, pixels = decode(file, layout_like(expected))
    assert (header.height, header.width) == expected.shape
    assert read_header(file) == header
    assert np.abs(pixels[..., 0].astype(int) - expected).max() <= tolerance
    if orientation != 1:
        assert expected.shape != GREY.shape or not np.array_equal(expected, GREY)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels_of(encoded(GREY, exif=exif), layout_like(GREY)), GREY)


# Resizing


def triangle(size: int, new_size: int, start: int, end: int) -> NDArray[np.float64]:
    """The antialiased bilinear filter over start..end as a matrix (new_size, size); rows sum to 1."""
    scale = (end - start) / new_size
    centres = start + (np.arange(new_size)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres) / max(scale, 1)
    weights = (1 - distance).clip(0)
    return weights / weights.sum(1, keepdims=True)


def resized(
    pixels: NDArray[Any], height: int, width: int, columns: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """All rows and the given columns, resized; the filter also sees what lies beside the columns."""
    down = triangle(pixels.shape[0], height, 0, pixels.shape[0])
    right = triangle(pixels.shape[1], width, *(columns or (0, pixels.shape[1])))
    return np.einsum("ih,hw...,jw->ij...", down, pixels.astype(float), right, optimize=True)


BIG = RANDOM.integers(5, 256, (40, 80, 3), dtype=np.uint8)  # black is what was padded


def by_hand(resize: str, pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    if resize == "stretch":
        return resized(pixels, side, side)
    if resize == "crop":
        return resized(pixels, side, side, columns=(20, 60))
    bars = np.zeros((side, side, 3))
    bars[side // 4 : side - side // 4] = resized(pixels, side // 2, side)
    return bars


@pytest.mark.parametrize("is_upright", [False, True])
@pytest.mark.parametrize("side", [20, 40, 100])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_resizing_agrees_with_the_filter_by_hand(resize: Any, side: int, is_upright: bool) -> None:
    expected = by_hand(resize, BIG, side)
    source = BIG
    if is_upright:
        expected, source = expected.transpose(1, 0, 2), BIG.transpose(1, 0, 2)
    got = pixels_of(encoded(np.ascontiguousarray(source)), PixelLayout(side, side, 3, resize))
    assert np.abs(got - expected).max() <= 1.01  # Pillow rounds twice: across, then down
    if resize == "pad":
        assert np.array_equal(got == 0, expected == 0)


def test_policies_differ() -> None:
    results = [by_hand(resize, BIG, 20) for resize in ("stretch", "crop", "pad")]
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.combinations(results, 2))


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_the_right_size_is_not_resampled(resize: Any) -> None:
    assert np.array_equal(pixels_of(encoded(RGB), PixelLayout(12, 17, 3, resize)), RGB)


@pytest.mark.parametrize("size", [(500, 1), (1, 500)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_something_is_left_of_a_very_long_image(resize: Any, size: tuple[int, int]) -> None:
    file = encoded(Image.new("L", size, 200))
    assert pixels_of(file, PixelLayout(32, 32, 1, resize)).max() == 200


# Files that are not what they say


def test_an_empty_file_is_refused() -> None:
    assert bad(b"") == "empty file"


NO_IMAGES = {
    "text": b"label,path\n" * 20,
    "one byte": b"\x89",
    "zeros": bytes(100),
    "PNG signature": b"\x89PNG\r\n\x1a\n",
    "JPEG signature": b"\xff\xd8\xff",
    "TIFF": encoded(RGB, "TIFF"),
}


@pytest.mark.parametrize("file", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_of_a_known_format_is_refused(file: bytes) -> None:
    assert bad(file) == UNKNOWN
    with pytest.raises(BadImage):
        read_header(file)


def test_numbers_with_a_fraction_are_refused() -> None:
    """PFM, floating point grey, comes as PPM; taken as 0..255 its 0..1 would be black."""
    file = b"Pf\n4 4\n-1.0\n" + np.linspace(0, 1, 16).astype("<f4").tobytes()
    assert bad(file)


def in_all_formats(pixels: NDArray[np.uint8]) -> dict[str, bytes]:
    return {
        "PNG": encoded(pixels),
        "JPEG": encoded(pixels, "JPEG"),
        "progressive JPEG": encoded(pixels, "JPEG", progressive=True),
        "BMP": encoded(pixels, "BMP"),
        "GIF": encoded(pixels, "GIF"),
        "PPM": encoded(pixels, "PPM"),
        "WEBP": encoded(pixels, "WEBP"),
    }


WHOLE = in_all_formats(RGB)
HALVES = {
    name: (file, file[: len(file) // 2])
    for name, file in in_all_formats(BIG).items()
    if name != "WEBP"  # half a WebP is none at all to Pillow
}


@pytest.mark.parametrize("half", [half for _, half in HALVES.values()], ids=HALVES)
def test_a_truncated_file_is_refused_as_truncated(half: bytes) -> None:
    assert bad(half).startswith("truncated or damaged: ")


@pytest.mark.parametrize(("file", "half"), HALVES.values(), ids=HALVES)
def test_reading_a_header_decodes_nothing(file: bytes, half: bytes) -> None:
    """So it does not miss the other half."""
    assert read_header(half) == read_header(file)


@pytest.mark.parametrize("file", WHOLE.values(), ids=WHOLE)
def test_wherever_a_file_is_cut_no_pixel_is_made_up(file: bytes) -> None:
    layout = layout_like(RGB)
    whole = pixels_of(file, layout)
    num_refused = 0
    for length in range(len(file)):
        try:
            assert np.array_equal(pixels_of(file[:length], layout), whole)
        except BadImage:
            num_refused += 1
    assert num_refused > len(file) - 25  # only a trailer can miss, or a PNG's last checksum


def test_a_flipped_bit_of_a_png_changes_no_pixel_unnoticed() -> None:
    file, layout = WHOLE["PNG"], layout_like(RGB)
    num_refused = 0
    for position in range(len(file)):
        rotten = bytearray(file)
        rotten[position] ^= 0x10
        try:
            assert np.array_equal(pixels_of(bytes(rotten), layout), RGB)
        except BadImage:
            num_refused += 1
    assert num_refused > len(file) - 25


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_586, 12_000, 50_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_size_before_memory_is_taken(side: int) -> None:
    file = png((side, side, 8, 0), bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = f"{side} x {side} pixels; at most {MAX_PIXELS:,} are decoded"
    assert bad(file) == message
    with pytest.raises(BadImage, match=message):
        read_header(file)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 50_000  # KiB; the smallest of them would take 131 MiB


def test_the_limit_of_pixels_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 12 * 17)
    assert np.array_equal(pixels_of(encoded(GREY), layout_like(GREY)), GREY)
    assert bad(encoded(Image.new("L", (205, 1)))) == "205 x 1 pixels; at most 204 are decoded"
