"""One image file to pixels: every mode and format, resizing, and files that are not what they say."""

import io
import itertools
import pickle
import re
import resource
import struct
import zlib
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, features

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode, decoder_version, read_header
from darkroom.decoding.formats import MAX_PIXELS, MAX_PIXELS_OF_COPIES

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (12, 17), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (12, 17, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (12, 17), dtype=np.uint8)
ANY_LAYOUT = PixelLayout(8, 8, 3, "stretch")
FORMATS = "JPEG, PNG, WEBP, GIF, BMP, PPM" + ", AVIF" * features.check("avif")

# pytest sets aside the filters that decode.py installs
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def encoded(image: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def layout_like(pixels: NDArray[Any]) -> PixelLayout:
    return PixelLayout(pixels.shape[0], pixels.shape[1], 1 if pixels.ndim == 2 else 3, "stretch")


def pixels_of(file: bytes, layout: PixelLayout, tiff: bool = False) -> NDArray[np.uint8]:
    pixels = decode(file, layout, tiff)[1]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (layout.height, layout.width, layout.channels)
    return pixels[..., 0] if layout.channels == 1 else pixels


def bad(file: bytes, layout: PixelLayout = ANY_LAYOUT, tiff: bool = False) -> tuple[str, str]:
    """Returns the outcome and the message with which a file is refused."""
    with pytest.raises(BadImage) as refused:
        decode(file, layout, tiff)
    return refused.value.outcome, str(refused.value)


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
    [("PNG", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_lossless_formats_give_back_every_pixel(
    format: str, options: dict[str, Any], pixels: NDArray[np.uint8]
) -> None:
    file = encoded(pixels, format, **options)
    assert np.array_equal(pixels_of(file, layout_like(pixels), tiff=True), pixels)
    header = read_header(file, tiff=True)
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


@pytest.mark.parametrize("size", [(2050, 3), (3, 2050), (2048, 2), (5000, 1)])
def test_large_images_are_converted_in_pieces_without_a_seam(size: tuple[int, int]) -> None:
    pixels = RANDOM.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    alpha = RANDOM.integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(alpha))
    got = pixels_of(encoded(image), layout_like(pixels)).astype(float)
    assert np.abs(got - on_white(pixels, alpha)).max() <= 1


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
    assert bad(b"") == ("empty", "empty file")


NO_IMAGES = {
    "text": b"label,path\n" * 20,
    "one byte": b"\x89",
    "zeros": bytes(100),
    "text like a BMP": b"BMW is a make of cars and motorcycles",
    "HEIC": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99),
}


@pytest.mark.parametrize("file", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_of_a_known_format_is_refused(file: bytes) -> None:
    assert bad(file) == ("not an image", f"not an image of a known format ({FORMATS})")
    assert bad(file, tiff=True)[1].endswith(", TIFF)")
    with pytest.raises(BadImage):
        read_header(file)


def test_tiff_is_read_where_it_is_asked_for() -> None:
    file = encoded(RGB, "TIFF")
    message = "the file is TIFF, which is read only on request (prepare.tiff, predict --tiff)"
    assert bad(file) == ("not an image", message)
    with pytest.raises(BadImage, match=re.escape(message)):
        read_header(file)
    assert np.array_equal(pixels_of(file, layout_like(RGB), tiff=True), RGB)


FRACTIONS = np.append(np.linspace(0, 1, 15), 0.5).reshape(4, 4).astype(np.float32)


@pytest.mark.parametrize("format", ["TIFF", "PPM"])
def test_fractions_are_black_at_0_and_white_at_1(format: str) -> None:
    file = encoded(FRACTIONS, format)
    assert read_header(file, tiff=True).is_grey
    expected = np.round(FRACTIONS.astype(np.float64) * 255)
    assert np.array_equal(pixels_of(file, layout_like(FRACTIONS), tiff=True), expected)
    assert sorted(np.unique(expected))[-1] == 255


@pytest.mark.parametrize(
    ("value", "named"),
    [(-0.25, "-0.25..1"), (1.5, "0..1.5"), (255, "0..255"), (np.nan, "nan..nan"), (np.inf, "0..inf")],
)
def test_fractions_outside_of_0_to_1_are_refused_and_never_clipped(value: float, named: str) -> None:
    file = encoded(np.append(FRACTIONS, [[value] * 4], 0).astype(np.float32), "TIFF")
    message = f"fractions {named}; only 0 (black) to 1 (white) are known"
    assert bad(file, tiff=True) == ("unreadable", message)


def test_whole_numbers_of_32_bits_are_grey_of_16_bits() -> None:
    file = encoded(WIDE.astype(np.int32), "TIFF")
    assert np.array_equal(pixels_of(file, layout_like(WIDE), tiff=True), np.round(WIDE / 257))
    for value in (-1, 65_536):
        values = np.array([[0, value]], np.int32)
        outcome, message = bad(encoded(values, "TIFF"), tiff=True)
        assert outcome == "unreadable"
        assert f"values {values.min()}..{values.max()}" in message


def test_of_16_bit_colour_the_upper_bits_are_taken() -> None:
    wide = RANDOM.integers(0, 65_536, (12, 17, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    pixels = pixels_of(png((17, 12, 16, 2), rows), PixelLayout(12, 17, 3, "stretch"))
    assert np.array_equal(pixels, wide // 256)
    assert ((wide / 257 - pixels) < 1).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_value_counts_in_the_depth_of_the_file(bits: int) -> None:
    """Pillow spreads the pixels over 0..255, but not the value."""
    shades = np.arange(8 // bits)
    row = sum(int(shade) << (8 - bits * (1 + place)) for place, shade in enumerate(shades))
    file = png((len(shades), 1, bits, 0), bytes([0, row]), tRNS=struct.pack(">H", 1))
    expected = shades * 255 // (2**bits - 1)
    expected[1] = 255
    assert pixels_of(file, PixelLayout(1, len(shades), 1, "stretch"))[0].tolist() == expected.tolist()


def test_orientation_behind_the_pixels_of_a_png_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    start, end = encoded(GREY), struct.pack(">I", 0) + b"IEND"
    tags = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(tags)) + b"eXIf" + tags + struct.pack(">I", zlib.crc32(b"eXIf" + tags))
    file = start.replace(end, chunk + end)
    header, pixels = decode(file, PixelLayout(17, 12, 1, "stretch"))
    assert (header.width, header.height) == (12, 17)
    assert np.array_equal(pixels[..., 0], ORIENTED[6](GREY))


def test_nobody_can_turn_on_the_filling_of_truncated_files(monkeypatch: pytest.MonkeyPatch) -> None:
    half = HALVES["JPEG"][1]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.open(io.BytesIO(half)).load()  # without us, Pillow makes something up
    assert bad(half)[0] == "truncated"


def test_a_png_whose_pixels_end_well_but_early_is_truncated() -> None:
    rows = [b"\0" + row.tobytes() for row in GREY]
    for num_rows in range(1, 12):
        outcome, message = bad(png((17, 12, 8, 0), b"".join(rows[:num_rows])))
        assert (outcome, message) == ("truncated", "fewer rows of pixels than the header says")
    assert np.array_equal(pixels_of(png((17, 12, 8, 0), b"".join(rows)), layout_like(GREY)), GREY)


@pytest.mark.parametrize("value", [0, 171, 255])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_plain_png_is_no_truncated_one(mode: str, value: int) -> None:
    image = Image.new(mode, (5, 4), value)
    expected = {"I;16": round(value / 257), "1": 255 * bool(value), "LA": 255}.get(mode, value)
    pixels = pixels_of(encoded(image), PixelLayout(4, 5, 3, "stretch"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
    if mode not in ("P", "RGB", "RGBA", "LA"):
        assert pixels[0, 0, 0] == expected


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_a_tiff_with_too_few_strips_is_refused(compression: str | None) -> None:
    file = encoded(RGB, "TIFF", compression=compression)
    directory = int.from_bytes(file[4:8], "little") + 2
    tags = {
        int.from_bytes(file[at : at + 2], "little"): at for at in range(directory, directory + 60, 12)
    }
    length = tags[257] + 8
    longer = file[:length] + (24).to_bytes(4, "little") + file[length + 4 :]
    assert bad(longer, tiff=True)[0] in ("truncated", "unreadable")
    assert np.array_equal(pixels_of(file, layout_like(RGB), tiff=True), RGB)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_more_than_one_frame_is_told(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    one = encoded(frames[0], format)
    several = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    for file, animated in ((one, False), (several, True)):
        header, _ = decode(file, ANY_LAYOUT, tiff=True)
        assert header.animated is animated
        assert read_header(file, tiff=True) == header


def test_the_reason_survives_the_way_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(BadImage("too large", "9 x 9 pixels")))
    assert (error.outcome, str(error)) == ("too large", "9 x 9 pixels")


def test_the_version_names_pillow_and_its_libraries() -> None:
    version = decoder_version()
    assert f"pil={PIL.__version__} " in version
    for library in ("libjpeg_turbo", "zlib", "webp", "libtiff"):
        assert f"{library}={features.version(library)}" in version.split()


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
HALVES = {name: (file, file[: len(file) // 2]) for name, file in in_all_formats(BIG).items()}


@pytest.mark.parametrize("half", [half for _, half in HALVES.values()], ids=HALVES)
def test_a_truncated_file_is_refused_as_truncated(half: bytes) -> None:
    assert bad(half) == ("truncated", "the bytes end too early")


@pytest.mark.parametrize("name", [name for name in HALVES if name != "WEBP"])  # which is taken whole
def test_reading_a_header_decodes_nothing(name: str) -> None:
    """So it does not miss the other half, and reads no more of a file than it needs."""
    file, half = HALVES[name]
    assert read_header(half) == read_header(file)
    opened = io.BytesIO(file + bytes(100_000))
    assert read_header(opened) == read_header(file)
    assert opened.tell() <= len(file)


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


@pytest.mark.parametrize("side", [10_955, 12_000, 50_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_size_before_memory_is_taken(side: int) -> None:
    file = png((side, side, 8, 0), bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = f"{side} x {side} pixels; at most 103,000,000 are decoded"
    assert bad(file) == ("too large", message)
    with pytest.raises(BadImage, match=message):
        read_header(file)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 50_000  # KiB; the smallest of them would take 114 MiB


def sized(format: str, width: int, height: int) -> bytes:
    if format == "PNG":
        return png((width, height, 8, 0), bytes(9))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    file = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return file[:24] + canvas + file[30:]


@pytest.mark.parametrize(("format", "limit"), [("PNG", MAX_PIXELS), ("WEBP", MAX_PIXELS_OF_COPIES)])
def test_the_limit_of_pixels_is_exact(format: str, limit: int) -> None:
    header = read_header(sized(format, limit // 10_000, 10_000))
    assert header.width * header.height == limit
    assert bad(sized(format, limit // 10_000 + 1, 10_000))[0] == "too large"
