"""Reading masks: their classes, their files, and how files are paired."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from darkroom.collection.mask_classes import binary_classes, read_mask_classes
from darkroom.collection.mask_pairs import has_masks
from darkroom.collection.masks import pair_masks
from darkroom.decoding.decode import PixelLayout, decode
from darkroom.decoding.masks import decode_mask
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
