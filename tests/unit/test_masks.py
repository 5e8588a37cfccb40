"""Reading masks: their classes, their files, and every kind of bad input with its message."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from darkroom.collection.mask_classes import MaskClasses, binary_classes, read_mask_classes
from darkroom.collection.mask_pairs import has_masks
from darkroom.collection.masks import pair_masks
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.decoding.masks import decode_mask
from darkroom.errors import UserError
from darkroom.void import VOID

INDICES = read_mask_classes("classes.csv", b"index,name\n0,sky\n2,road\n7,car\n255,Void\n")
COLOURS = read_mask_classes("classes.csv", b"name,r,g,b\nsky,0,0,255\nroad,128,64,128\nvoid,0,0,0\n")
BINARY = binary_classes()

MASK = np.array([[0, 2, 2, 7], [0, 0, 255, 7], [2, 2, 2, 2]], np.uint8)
EXPECTED = np.array([[0, 1, 1, 2], [0, 0, VOID, 2], [1, 1, 1, 1]], np.uint8)
SIZE = (4, 3)
LAYOUT = PixelLayout(3, 4, 3, "stretch")


def png(image: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def small_depth(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG with 1, 2 or 4 bits per pixel, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape
    per_pixel = (values[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(per_pixel.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def indexed(values: np.ndarray, palette: list[int] | None = None) -> Image.Image:
    image = Image.frombytes("P", values.shape[::-1], values.tobytes())
    image.putpalette(palette or [value % 256 for value in range(0, 5 * 256 * 3, 5)])
    return image


def coloured(indices: np.ndarray) -> np.ndarray:
    return np.array([(0, 0, 255), (128, 64, 128), (0, 0, 0)], np.uint8)[indices]


def test_grey_and_indexed_masks_have_the_stored_indices() -> None:
    assert (decode_mask(png(MASK), INDICES, SIZE, LAYOUT) == EXPECTED).all()
    assert (decode_mask(png(indexed(MASK)), INDICES, SIZE, LAYOUT) == EXPECTED).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indices_of_few_bits_are_not_scaled(bits: int) -> None:
    values = np.array([[0, 1, 1, 0], [1, 0, 2**bits - 1, 1]], np.uint8)
    table = "index,name\n" + "".join(f"{index},class {index}\n" for index in range(16))
    classes = read_mask_classes("classes.csv", table.encode())
    layout = PixelLayout(2, 4, 3, "stretch")
    assert (decode_mask(small_depth(values, bits), classes, (4, 2), layout) == values).all()


def test_colours_are_looked_up_also_those_of_a_palette() -> None:
    indices = np.array([[0, 1], [2, 1]])
    expected = np.array([[0, 1], [VOID, 1]])
    layout = PixelLayout(2, 2, 3, "stretch")
    assert (decode_mask(png(coloured(indices)), COLOURS, (2, 2), layout) == expected).all()
    palette = [0, 0, 255, 128, 64, 128, 0, 0, 0]
    as_indices = png(indexed(indices.astype(np.uint8), palette))
    assert (decode_mask(as_indices, COLOURS, (2, 2), layout) == expected).all()
    assert COLOURS.names == ("sky", "road")


@pytest.mark.parametrize("white", [1, 255])
def test_binary_masks_need_no_table(white: int) -> None:
    values = np.array([[0, white], [white, 0]], np.uint8)
    layout = PixelLayout(2, 2, 3, "stretch")
    expected = values > 0
    assert (decode_mask(png(values), BINARY, (2, 2), layout) == expected).all()
    of_bits = png(Image.fromarray(expected))
    assert (decode_mask(of_bits, BINARY, (2, 2), layout) == expected).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(48, 64), (20, 50), (90, 30)])
def test_masks_move_like_their_images(resize: str, size: tuple[int, int]) -> None:
    # the image is white where the mask has class 1, and both agree where it stays black or white
    random = np.random.default_rng(0)
    blocks = np.kron(random.integers(0, 2, (6, 8)), np.ones((12, 12))).astype(np.uint8)
    layout = PixelLayout(*size, 1, resize)  # type: ignore[arg-type]
    _, pixels = decode(png(blocks * 255), layout)
    mask = decode_mask(png(blocks), BINARY, (96, 72), layout)
    assert mask.shape == size
    assert set(np.unique(mask)) <= {0, 1, VOID}
    is_sure = (mask != VOID) & ((pixels[..., 0] < 20) | (pixels[..., 0] > 235))
    assert is_sure.mean() > 0.1
    assert (mask[is_sure] == (pixels[..., 0] > 127)[is_sure]).all()
    if resize == "pad":
        assert (pixels[..., 0][mask == VOID] == 0).all()
        assert (mask == VOID).any() == (size != (48, 64))
    else:
        assert (mask != VOID).all()


def animated(values: np.ndarray) -> bytes:
    frames = [Image.fromarray(values), Image.fromarray(255 - values)]
    return png(frames[0], save_all=True, append_images=frames[1:])


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
GREYS = np.where(MASK == 255, 37, MASK).astype(np.uint8)
BLENDED = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)

BAD_FILES: dict[str, tuple[bytes, MaskClasses, str, str]] = {
    "empty file": (b"", INDICES, "empty", "empty file"),
    "text": (b"index,name\n", INDICES, "not an image", "not an image of a known format"),
    "only a signature": (png(MASK)[:8], INDICES, "truncated", "too early"),
    "header alone": (png(MASK)[:33], INDICES, "truncated", "too early"),
    "half a file": (cut(png(NOISE), 0.5), INDICES, "truncated", "too early"),
    "damaged pixels": (
        png(NOISE)[:60] + bytes(40) + png(NOISE)[100:], INDICES, "unreadable", "damaged",
    ),
    "JPEG": (png(MASK, "JPEG"), INDICES, "unreadable", "the file is JPEG, which changes the values"),
    "WebP": (png(coloured(MASK % 2), "WEBP"), COLOURS, "unreadable", "WEBP; masks must be PNG"),
    "AVIF": (png(coloured(MASK % 2), "AVIF"), COLOURS, "unreadable", "the file is AVIF, which changes"),
    "GIF": (png(MASK, "GIF"), INDICES, "unreadable", "the file is GIF; masks must be PNG"),
    "BMP": (png(MASK, "BMP"), INDICES, "unreadable", "the file is BMP; masks must be PNG"),
    "TIFF": (png(MASK, "TIFF"), INDICES, "unreadable", "the file is TIFF; masks must be PNG"),
    "PGM": (png(MASK, "PPM"), INDICES, "unreadable", "the file is PPM; masks must be PNG"),
    "animated": (animated(MASK), INDICES, "unreadable", "the file is animated"),
    "16 bits": (png(MASK.astype(np.uint16)), INDICES, "unreadable", "16 bits per channel"),
    "grey with alpha": (
        png(Image.fromarray(MASK).convert("LA")), INDICES, "unreadable", "has transparency",
    ),
    "colour with alpha": (
        png(Image.fromarray(coloured(MASK % 2)).convert("RGBA")), COLOURS, "unreadable", "transparency",
    ),
    "a transparent level": (png(MASK, transparency=0), INDICES, "unreadable", "has transparency"),
    "smaller": (
        png(MASK[:, :2]), INDICES, "unreadable", "mask: 2 x 3 pixels, but its image has 4 x 3",
    ),
    "turned": (png(MASK.T.copy()), INDICES, "unreadable", "3 x 4 pixels, but its image has 4 x 3"),
    "unknown index": (
        png(GREYS), INDICES, "unreadable",
        "mask: 1 pixel of the index 37, which is not in classes.csv",
    ),
    "unknown index of a palette": (
        png(indexed(GREYS)), INDICES, "unreadable", "1 pixel of the index 37",
    ),
    "two unknown indices": (
        png(np.where(MASK == 0, 9, GREYS).astype(np.uint8)), INDICES, "unreadable",
        "3 pixels of the index 9, which is not in classes.csv, and 1 more unknown value",
    ),
    "unknown colour": (
        png(np.full((3, 4, 3), (255, 128, 0), np.uint8)), COLOURS, "unreadable",
        "12 pixels of the colour #ff8000, which is not in classes.csv",
    ),
    "grey for colours": (
        png(np.full((3, 4), 9, np.uint8)), COLOURS, "unreadable", "of the colour #090909",
    ),
    "colours for indices": (
        png(coloured(MASK % 2)), INDICES, "unreadable",
        "it has colours, but classes.csv has indices; give the table the columns colour and name",
    ),
    "interpolated colours": (
        png(BLENDED), COLOURS, "unreadable", "probably resized with interpolation",
    ),
    "interpolated binary": (
        png(NOISE), BINARY, "unreadable", "not 0, 1 or 255, and 252 more unknown values; it was",
    ),
    "inverted bits without a table of 1": (
        png(Image.fromarray(MASK > 0)), INDICES, "unreadable", "of the index 1, which is not in",
    ),
    "all void": (png(np.full((3, 4), 255, np.uint8)), INDICES, "unreadable", "every pixel is void"),
    "all void colour": (
        png(np.zeros((3, 4, 3), np.uint8)), COLOURS, "unreadable", "every pixel is void",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_mask_has_an_outcome_and_a_plain_reason(case: str) -> None:
    content, classes, outcome, reason = BAD_FILES[case]
    size = (64, 64) if "interpolated" in case or case in ("half a file", "damaged pixels") else SIZE
    with pytest.raises(BadImage) as caught:
        decode_mask(content, classes, size, LAYOUT)
    assert caught.value.outcome == outcome
    assert caught.value.reason.startswith("mask: ")
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


def test_there_are_thirty_bad_masks() -> None:
    assert len(BAD_FILES) >= 30


BAD_TABLES = {
    "index,name\n0,sky\n": "at least two classes are needed besides void, but it has sky",
    "index,name\n0,void\n": "at least two classes are needed besides void, but it has none",
    "": "the columns are",
    "0,sky\n1,road\n": "the columns are 0, sky; needed are index and name",
    "index\n0\n": "the columns are index; needed are",
    "index,name\n0,sky\n0,road\n": "line 3: 0 is already sky",
    "index,name\n0,sky\n1,Sky\n": "line 3: Sky is the same name as sky, in a row above",
    "index,name\n0,sky\n1,\n": "line 3: the name is empty",
    "index,name\n0,sky\n-1,road\n": 'line 3: "-1" is not an index',
    "index,name\n0,sky\n1.0,road\n": 'line 3: "1.0" is not an index; it must be a whole number',
    "index,name\n0,sky\n256,road\n": "is not an index; it must be a whole number from 0 to 255",
    "index,name\n0,sky,blue\n": "line 2 has 3 fields, the first line has 2",
    "colour,name\n#00f,sky\n#112233,road\n": 'line 2: "#00f" is not a colour; write six hexadecimal',
    "colour,name\n#0000ff,sky\n0000FF,road\n": "line 3: 0000FF is already sky",
    "r,g,b,name\n0,0,255,sky\n0,0,300,road\n": 'line 3: "300" is not a level',
    "r,g,b,name\n0,0,255,sky\n0,0,255,road\n": "line 3: 0, 0, 255 is already sky",
}


@pytest.mark.parametrize("table", BAD_TABLES)
def test_a_bad_table_is_refused_by_name_and_line(table: str) -> None:
    with pytest.raises(UserError) as caught:
        read_mask_classes("classes.csv", table.encode())
    assert f"{caught.value}".startswith("classes.csv: ")
    assert BAD_TABLES[table] in f"{caught.value}"


@pytest.mark.parametrize(
    ("table", "code", "values"),
    [
        (b"Index;Name\n3;road\n1;sky\n", "index", {1: 0, 3: 1}),
        (b"name,color\nsky,#0000ff\nroad,ff8000\n", "colour", {0x0000FF: 0, 0xFF8000: 1}),
        (b"name,r,g,b\nvoid,0,0,0\nb,1,2,3\na,9,9,9\n", "colour", {0: VOID, 0x010203: 0, 0x090909: 1}),
        (b"index,name,note\n0,VOID,x\n1,a,\n2,b,\n", "index", {0: VOID, 1: 0, 2: 1}),
    ],
)
def test_tables_have_indices_or_colours(table: bytes, code: str, values: dict[int, int]) -> None:
    classes = read_mask_classes("classes.csv", table)
    assert (classes.code, classes.values) == (code, values)


PAIRED: list[tuple[list[str], dict[str, str]]] = [
    (["images/1.jpg", "masks/1.png"], {"images/1.jpg": "masks/1.png"}),
    (["Images/a/1.jpg", "Masks/a/1.png"], {"Images/a/1.jpg": "Masks/a/1.png"}),
    (["train/images/1.jpg", "train/masks/1.png"], {"train/images/1.jpg": "train/masks/1.png"}),
    (["images/1.jpg", "masks/1_mask.png"], {"images/1.jpg": "masks/1_mask.png"}),
    (["images/a.b.jpg", "masks/a.b_L.png"], {"images/a.b.jpg": "masks/a.b_L.png"}),
    (
        ["images/1.jpg", "images/1_mask.jpg", "masks/1.png", "masks/1_mask.png"],
        {"images/1.jpg": "masks/1.png", "images/1_mask.jpg": "masks/1_mask.png"},
    ),
]


@pytest.mark.parametrize(("paths", "expected"), PAIRED)
def test_masks_are_found_by_name(paths: list[str], expected: dict[str, str]) -> None:
    pairs = pair_masks(paths, BINARY)
    assert {image: file.path for image, [file] in pairs.masks.items()} == expected
    assert pairs.outcomes == {}
    assert has_masks(paths)


UNPAIRED: list[tuple[list[str], str, str, str]] = [
    (["images/1.jpg"], "images/1.jpg", "missing", "no mask masks/1.png"),
    (["train/images/1.jpg"], "train/images/1.jpg", "missing", "no mask train/masks/1.png"),
    (["masks/1.png"], "masks/1.png", "unlisted", "a mask without an image images/1.*"),
    (["readme.txt"], "readme.txt", "unlisted", "in neither of the folders images and masks"),
    (
        ["images/1.jpg", "images/1.png", "masks/1.png"],
        "images/1.jpg", "unreadable", "has the same name as images/1.png, so as its mask",
    ),
    (
        ["images/1.jpg", "images/1.png", "masks/1.png"],
        "masks/1.png", "unlisted", "the mask of an image that is not used",
    ),
    (
        ["images/1.jpg", "masks/1.png", "masks/1.gif"],
        "images/1.jpg", "unreadable", "has several masks: masks/1.gif, masks/1.png",
    ),
    (
        ["images/1.jpg", "masks/1_mask.png", "masks/1_L.png"],
        "images/1.jpg", "unreadable", "has several masks: masks/1_mask.png, masks/1_L.png",
    ),
    (
        ["images/1.jpg", "images/1_mask.jpg", "masks/1_mask.png"],
        "images/1.jpg", "missing", "no mask masks/1.png",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "path", "outcome", "reason"), UNPAIRED)
def test_a_file_without_its_other_half_has_an_outcome(
    paths: list[str], path: str, outcome: str, reason: str
) -> None:
    pairs = pair_masks(paths, BINARY)
    assert pairs.outcomes[path] == (outcome, reason)
    parts = [file.path for files in pairs.masks.values() for file in files]
    placed = [*pairs.masks, *parts, *pairs.outcomes]
    assert sorted(placed) == sorted(paths)
