"""Every kind of bad mask input, in one table: what is wrong, and the message that `prepare` gives.

Each case changes a collection of three images that is fine, and reads it as the stage does.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_mask_preparation import LAYOUT, PARAMS, ROOT, source
from test_masks import MASK, coloured, indexed, png

from darkroom.collection.collection import find_collection
from darkroom.collection.trouble import Troubles
from darkroom.errors import UserError
from darkroom.preparation.candidates import check_candidates, select_candidates
from darkroom.preparation.ingest import ingest

Params = dict[str, Any]
Change = Callable[[Path], Params | None]
"""Makes a collection bad, and may return values of `data`."""

TABLES = {
    "index": "index,name\n0,sky\n2,road\n7,car\n255,Void\n",
    "colour": "name,r,g,b\nsky,0,0,255\nroad,128,64,128\nvoid,0,0,0\n",
    "binary": None,
    "file": "file,name\n,sky\nroad,road\ncar,car\n",
}
CODES = np.vectorize({0: 0, 2: 1, 7: 2, 255: 2}.__getitem__, otypes=[np.uint8])(MASK)
"""Sky, road and car, or sky, road and void, of 4 x 3 pixels."""

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
GREYS = np.where(MASK == 255, 37, MASK).astype(np.uint8)
BLENDED = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
WHITE, BLACK = np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8)


def animated(values: np.ndarray) -> bytes:
    frames = [Image.fromarray(values), Image.fromarray(255 - values)]
    return png(frames[0], save_all=True, append_images=frames[1:])


def write_collection(root: Path, kind: str) -> None:
    """Three images, called 1 to 3, whose masks show each class."""
    for number in (1, 2, 3):
        codes = np.roll(CODES, number, axis=1)
        drawn = {
            "index": {f"{number}": np.array([0, 2, 7], np.uint8)[codes]},
            "colour": {f"{number}": coloured(codes)},
            "binary": {f"{number}": (codes > 0).astype(np.uint8)},
            "file": {f"{number}_{part}": (codes == code) * np.uint8(255)
                     for code, part in ((1, "road"), (2, "car"))},
        }  # fmt: skip
        files = {f"masks/{name}.png": png(mask) for name, mask in drawn[kind].items()}
        noise = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
        for path, content in {f"images/{number}.png": png(noise), **files}.items():
            put(path, content)(root)
    if table := TABLES[kind]:
        (root / "classes.csv").write_text(table)


def put(path: str, content: bytes | str) -> Change:
    """Write a file."""

    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def move(old: str, new: str) -> Change:
    def change(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return change


def copy(old: str, *new: str) -> Change:
    return lambda root: both(*(put(path, (root / old).read_bytes()) for path in new))(root)


def remove(pattern: str) -> Change:
    def change(root: Path) -> None:
        for path in [*root.glob(pattern)]:
            path.unlink()

    return change


def both(*changes: Change) -> Change:
    def change(root: Path) -> Params:
        return {name: value for one in changes for name, value in (one(root) or {}).items()}

    return change


def params(**values: Any) -> Change:
    return lambda root: values


def link(path: str, target: str) -> Change:
    def change(root: Path) -> None:
        (root / path).unlink()
        (root / path).symlink_to(target)

    return change


def rows(*lines: str) -> Change:
    """List images and masks in a manifest."""
    return both(
        put("list.csv", "\n".join(["path,mask", *lines])),
        params(manifest="list.csv", mask_column="mask"),
    )


mask, wide_mask = (partial(put, f"masks/{name}.png") for name in ("1", "wide"))
part = partial(put, "masks/1_road.png")
table = partial(put, "classes.csv")


def wide(content: bytes) -> Change:
    """A further image of 64 x 64 pixels, and its mask."""
    return both(put("images/wide.png", png(NOISE)), wide_mask(content))


FIRST = "the first: images/1.png: "
TABLE = "data.classes_file: {root}/classes.csv: "

CASES: dict[str, tuple[str, Change, str]] = {
    # files that are no masks
    "an empty file": ("index", mask(b""), f"1 empty, {FIRST}mask: empty file"),
    "text": ("index", mask("0,0,1"), f"1 not an image, {FIRST}mask: not an image of a known format"),
    "only a signature": (
        "index", mask(png(MASK)[:8]),
        f"1 truncated, {FIRST}mask: the bytes end too early",
    ),
    "a header alone": (
        "index", mask(png(MASK)[:33]),
        f"1 truncated, {FIRST}mask: the bytes end too early",
    ),
    "half a file": (
        "index", wide(png(NOISE)[: len(png(NOISE)) // 2]),
        "1 truncated, the first: images/wide.png: mask: the bytes end too early",
    ),
    "damaged pixels": (
        "index", wide(png(NOISE)[:60] + bytes(40) + png(NOISE)[100:]),
        "1 unreadable, the first: images/wide.png: mask: damaged, or not supported",
    ),
    "a dead link": (
        "index", link("masks/1.png", "none.png"),
        f"1 unreadable, {FIRST}mask: masks/1.png is missing",
    ),
    "a link to a file elsewhere": (
        "index", link("masks/1.png", "/etc/hostname"),
        f"1 unreadable, {FIRST}mask: masks/1.png is outside",
    ),
    # formats
    "JPEG": (
        "index", mask(png(MASK, "JPEG")),
        f"1 unreadable, {FIRST}mask: the file is JPEG, which changes the values of pixels when it is"
        " compressed; save masks as PNG from their source",
    ),
    "AVIF": (
        "colour", mask(png(coloured(CODES), "AVIF")),
        f"1 unreadable, {FIRST}mask: the file is AVIF, which changes the values of pixels",
    ),
    "WebP": (
        "colour", mask(png(coloured(CODES), "WEBP")),
        f"1 unreadable, {FIRST}mask: the file is WEBP; masks must be PNG",
    ),
    "GIF": ("index", mask(png(MASK, "GIF")), f"{FIRST}mask: the file is GIF; masks must be PNG"),
    "BMP": ("index", mask(png(MASK, "BMP")), f"{FIRST}mask: the file is BMP; masks must be PNG"),
    "TIFF": ("index", mask(png(MASK, "TIFF")), f"{FIRST}mask: the file is TIFF; masks must be PNG"),
    "PGM": ("index", mask(png(MASK, "PPM")), f"{FIRST}mask: the file is PPM; masks must be PNG"),
    "several frames": (
        "index", mask(animated(MASK)), f"{FIRST}mask: the file is animated; a mask has one frame",
    ),
    "16 bits": (
        "index", mask(png(MASK.astype(np.uint16))),
        f"{FIRST}mask: 16 bits per channel; save masks with 8 bits",
    ),
    "grey with alpha": (
        "index", mask(png(Image.fromarray(MASK).convert("LA"))),
        f"{FIRST}mask: has transparency, which stands for no class; save it without",
    ),
    "colours with alpha": (
        "colour", mask(png(Image.fromarray(coloured(CODES)).convert("RGBA"))),
        f"{FIRST}mask: has transparency, which stands for no class; save it without",
    ),
    "a transparent level": (
        "index", mask(png(MASK, transparency=0)),
        f"{FIRST}mask: has transparency, which stands for no class; save it without",
    ),
    # pixels
    "smaller than the image": (
        "index", mask(png(MASK[:, :2])), f"{FIRST}mask: 2 x 3 pixels, but its image has 4 x 3",
    ),
    "turned by 90 degrees": (
        "index", mask(png(MASK.T.copy())), f"{FIRST}mask: 3 x 4 pixels, but its image has 4 x 3",
    ),
    "an unknown index": (
        "index", mask(png(GREYS)), f"{FIRST}mask: 1 pixel of the index 37, which is not in classes.csv",
    ),
    "an unknown index of a palette": (
        "index", mask(png(indexed(GREYS))),
        f"{FIRST}mask: 1 pixel of the index 37, which is not in classes.csv",
    ),
    "two unknown indices": (
        "index", mask(png(np.where(MASK == 0, 9, GREYS).astype(np.uint8))),
        f"{FIRST}mask: 3 pixels of the index 9, which is not in classes.csv, and 1 more unknown value",
    ),
    "an unknown colour": (
        "colour", mask(png(np.full((3, 4, 3), (255, 128, 0), np.uint8))),
        f"{FIRST}mask: 12 pixels of the colour #ff8000, which is not in classes.csv",
    ),
    "an unknown colour of a palette": (
        "colour", mask(png(indexed(BLACK, [255, 128, 0]))),
        f"{FIRST}mask: 12 pixels of the colour #ff8000, which is not in classes.csv",
    ),
    "grey, where the table has colours": (
        "colour", mask(png(np.full((3, 4), 9, np.uint8))),
        f"{FIRST}mask: 12 pixels of the colour #090909, which is not in classes.csv",
    ),
    "colours, where the table has indices": (
        "index", mask(png(coloured(CODES))),
        f"{FIRST}mask: it has colours, but classes.csv has indices; give the table the columns"
        " colour and"
        " name, or save masks as grey or indexed PNG",
    ),
    "colours without a table": (
        "binary", mask(png(coloured(CODES))),
        f"{FIRST}mask: it has colours; set data.classes_file to a table of colours and names",
    ),
    "indices without a table": (
        "binary", mask(png(np.array([0, 2, 3], np.uint8)[CODES])),
        "of the index 2, which is not 0, 1 or 255, and 1 more unknown value",
    ),
    "interpolated colours": (
        "colour", wide(png(BLENDED)),
        "and 255 more unknown colours; it was probably resized with interpolation, or once"
        " saved as JPEG",
    ),
    "interpolated edges": (
        "binary", wide(png(NOISE)),
        "not 0, 1 or 255, and 252 more unknown values; it was probably resized with interpolation",
    ),
    "bits without an index 1": (
        "index", mask(png(Image.fromarray(MASK > 0))),
        f"{FIRST}mask: 9 pixels of the index 1, which is not in classes.csv",
    ),
    "only void": ("index", mask(png(WHITE)), f"{FIRST}mask: every pixel is void"),
    "only the colour of void": (
        "colour", mask(png(np.zeros((3, 4, 3), np.uint8))), f"{FIRST}mask: every pixel is void",
    ),
    # images and masks that do not go together
    "no mask": ("index", remove("masks/1.png"), f"1 missing, {FIRST}no mask masks/1.png"),
    "no mask below a folder": (
        "index", move("images/1.png", "images/a/1.png"),
        "1 missing, the first: images/a/1.png: no mask masks/a/1.png",
    ),
    "masks with other names": (
        "index", both(*(move(f"masks/{n}.png", f"masks/x{n}.png") for n in (1, 2, 3))),
        "none of the images in {root} has a mask that can be used; the first of 3:"
        " images/1.png: no mask",
    ),
    "two masks": (
        "index", copy("masks/1.png", "masks/1.gif"),
        f"1 unreadable, {FIRST}has several masks: masks/1.gif, masks/1.png",
    ),
    "two masks with endings": (
        "index",
        both(move("masks/1.png", "masks/1_mask.png"), copy("masks/1_mask.png", "masks/1_L.png")),
        f"1 unreadable, {FIRST}has several masks: masks/1_mask.png, masks/1_L.png",
    ),
    "two images of one mask": (
        "index", copy("images/1.png", "images/1.jpg"),
        "2 unreadable, the first: images/1.jpg: has the same name as images/1.png, so as its mask",
    ),
    "the mask of another image": (
        "index",
        both(move("masks/1.png", "masks/1_mask.png"), copy("images/1.png", "images/1_mask.png")),
        f"1 missing, {FIRST}no mask masks/1.png",
    ),
    "a class that no mask shows": (
        "index", table(f"{TABLES['index']}9,bus\n"),
        "no mask in {root} that can be used shows the class bus; add some, or remove the class from"
        " data.classes_file, or give its row the name of data.void",
    ),
    "some in split folders": (
        "index", both(*(move(f"{f}/1.png", f"{f}/train/1.png") for f in ("images", "masks"))),
        "contains images in split folders, such as images/train/1.png, and outside of them, such as",
    ),
    "a test split without train": (
        "index", both(*(move(f"{f}/{n}.png", f"{f}/test/{n}.png")
                        for f in ("images", "masks") for n in (1, 2, 3))),
        "contains images for test, but no folder train",
    ),
    "no folder of masks": (
        "index", remove("masks/*"),
        "data.classes_file: 'classes.csv' has the classes of masks, but {root} has no folders"
        " images and",
    ),
    "folders that are classes": (
        "index", params(masks="none"),
        "has the classes of masks, but {root} has no folders images and masks",
    ),
    "labels to merge": (
        "index", params(merge_labels={"a": "b"}),
        "data.merge_labels: {{'a': 'b'}} is for labels, but {root} has masks, whose classes"
        " are those of",
    ),
    # one file per class
    "a table of indices, and a file per class": (
        "file", table(TABLES["index"] or ""),
        "no mask masks/1.png; if masks/1_car.png is its mask for one class, give data.classes_file the"
        " columns file and name",
    ),
    "a folder per class, and no table": (
        "binary", move("masks/1.png", "masks/road/1.png"),
        f"1 missing, {FIRST}no mask masks/1.png; if masks/road/1.png is its mask for one class, give",
    ),
    "no file of any class": (
        "file", remove("masks/1_*"),
        f"1 missing, {FIRST}no mask of any class, such as masks/road/1.png or masks/1_road.png",
    ),
    "a file of no class": (
        "file", copy("masks/1_car.png", "masks/1_bus.png"),
        f"1 unreadable, {FIRST}masks/1_bus.png is of no class in classes.csv; add a row for it, with the"
        " name of data.void if it does not count, or move it out of the folder",
    ),
    "a folder of no class": (
        "file", copy("masks/1_car.png", "masks/bus/1.png"),
        f"1 unreadable, {FIRST}masks/bus/1.png is of no class in classes.csv; add a row for it",
    ),
    "a whole mask beside its parts": (
        "file", mask(png(BLACK)), f"1 unreadable, {FIRST}masks/1.png is of no class in classes.csv",
    ),
    "two files of a class": (
        "file", copy("masks/1_car.png", "masks/car/1.png"),
        f"1 unreadable, {FIRST}has several masks of car: masks/1_car.png, masks/car/1.png",
    ),
    "two objects of a class": (
        "file", copy("masks/1_car.png", "masks/1_car_2.png"),
        f"1 unreadable, {FIRST}masks/1_car_2.png is of no class in classes.csv",
    ),
    "a name that can be read in two ways": (
        "file", both(table("file,name\n,sky\ncar,car\nroad,road\nold_car,old car\n"),
                     copy("images/1.png", "images/1_old.png"),
                     copy("masks/1_car.png", "masks/1_old_car.png")),
        f"2 unreadable, {FIRST}masks/1_old_car.png could be old_car of 1 or car of 1_old; rename it",
    ),
    "files that overlap": (
        "file", part(png(WHITE)),
        f"1 unreadable, {FIRST}mask: masks/1_road.png and masks/1_car.png both mark 3 pixels;"
        " correct one of"
        " them, or say which class lies above the other by a column layer in classes.csv",
    ),
    "files of one layer that overlap": (
        "file", both(table("file,layer,name\n,0,sky\nroad,4,road\ncar,4,car\n"), part(png(WHITE))),
        f"{FIRST}mask: masks/1_road.png and masks/1_car.png both mark 3 pixels",
    ),
    "pixels in no file": (
        "file", table("file,name\nroad,road\ncar,car\n"),
        f"3 unreadable, {FIRST}mask: no file marks 3 pixels; give such pixels a class, or"
        " data.void, by a"
        " row of classes.csv whose file is empty",
    ),
    "a class file of another size": (
        "file", part(png(WHITE[:2])),
        f"{FIRST}mask: masks/1_road.png: 4 x 2 pixels, but its image has 4 x 3",
    ),
    "a class file with soft edges": (
        "file", part(png(WHITE // 2)),
        f"{FIRST}mask: masks/1_road.png: 12 pixels of the index 127, which is not 0, 1 or 255",
    ),
    "a class file with colours": (
        "file", part(png(np.full((3, 4, 3), (200, 0, 0), np.uint8))),
        f"{FIRST}mask: masks/1_road.png: 12 pixels of the colour #c80000, which is not #000000"
        " or #ffffff",
    ),
    "a class file in JPEG": (
        "file", part(png(WHITE, "JPEG")),
        f"{FIRST}mask: masks/1_road.png: the file is JPEG, which changes",
    ),
    "an empty class file": (
        "file", part(b""), f"1 empty, {FIRST}mask: masks/1_road.png: empty file",
    ),
    "class files in a manifest": (
        "file", rows("images/1.png,masks/1_car.png"),
        "data.classes_file: classes.csv has a file per class, which are found in folders"
        " images and masks,"
        " but data.manifest 'list.csv' names one mask per image",
    ),
    # rows of a manifest
    "a row without mask": (
        "index", rows("images/1.png,", "images/2.png,masks/2.png"),
        f"1 missing, {FIRST}mask: none in the manifest",
    ),
    "a listed mask that is missing": (
        "index", rows("images/1.png,mask/1.png", "images/2.png,masks/2.png"),
        f"1 missing, {FIRST}mask: mask/1.png is listed, but missing; did you mean masks/1.png?",
    ),
    "a path out of the collection": (
        "index", rows("images/1.png,../1.png", "images/2.png,masks/2.png"),
        f"1 outside, {FIRST}mask: ../1.png leads out of the folder that paths are relative to",
    ),
    "an absolute path": (
        "index", rows("images/1.png,/etc/passwd", "images/2.png,masks/2.png"),
        f"1 outside, {FIRST}mask: /etc/passwd leads out of the folder that paths are relative to",
    ),
    "the image as its mask": (
        "index", rows("images/1.png,images/1.png", "images/2.png,masks/2.png"),
        f"1 unreadable, {FIRST}mask: the manifest names the image itself",
    ),
    "a mask of two rows": (
        "index", rows("images/2.png,masks/1.png", "images/1.png,masks/1.png"),
        "1 unreadable, the first: images/2.png: mask: masks/1.png is also the mask of images/1.png",
    ),
    "an image as a mask": (
        "index", rows("images/1.png,images/2.png", "images/2.png,masks/2.png"),
        f"1 unreadable, {FIRST}mask: images/2.png is also listed as an image",
    ),
    "a hidden mask": (
        "index", both(copy("masks/1.png", "masks/.1.png"),
                      rows("images/1.png,masks/.1.png", "images/2.png,masks/2.png")),
        f"1 unreadable, {FIRST}mask: masks/.1.png is hidden",
    ),
    "two rows that disagree": (
        "index",
        rows("images/1.png,masks/1.png", "images/1.png,masks/3.png", "images/2.png,masks/2.png"),
        f"1 conflicting label, {FIRST}its mask is masks/1.png (line 2), masks/3.png (line 3)",
    ),
    "a listed image that is missing": (
        "index", rows("images/no.png,masks/1.png", "images/2.png,masks/2.png"),
        "1 missing, the first: images/no.png: listed, but missing",
    ),
    "a manifest without any mask": (
        "index", rows("images/1.png,"),
        "none of the rows of list.csv in {root} has a mask that can be used; the first of 1:"
        " images/1.png:"
        " mask: none in the manifest",
    ),
    "a column of masks that is missing": (
        "index", both(rows("images/1.png,"), params(mask_column="maks")),
        "data.mask_column: {root}/list.csv has no column maks among path, mask; did you mean mask?",
    ),
    # tables of classes
    "a table that is missing": (
        "index", params(classes_file="classes.txt"),
        "data.classes_file: {root} does not contain classes.txt; did you mean classes.csv?",
    ),
    "a table of another kind": (
        "index", params(classes_file="classes.json"),
        "data.classes_file: the suffix of classes.json is not one of .csv, .tsv, .txt",
    ),
    "a hidden table": (
        "index", both(copy("classes.csv", ".classes.csv"), params(classes_file=".classes.csv")),
        "data.classes_file: .classes.csv cannot be used: hidden",
    ),
    "a huge table": (
        "index", table("index,name\n" + "\n" * 2**20),
        "data.classes_file: classes.csv has 1,048,587 bytes; at most 1,048,576 are read",
    ),
    "a table that is not UTF-8": (
        "index", put("classes.csv", b"index,name\n0,\xff\n1,b\n"), f"{TABLE}line 2 is not UTF-8",
    ),
    "an empty table": ("index", table(""), f"{TABLE}the columns are"),
    "a table without a header": (
        "index", table("0,sky\n1,road\n"),
        f"{TABLE}the columns are 0, sky; needed are index and name, or colour (#rrggbb) and"
        " name, or r, g, b"
        " and name, or file and name",
    ),
    "a table without names": ("index", table("index\n0\n"), f"{TABLE}the columns are index; needed are"),
    "one class": (
        "index", table("index,name\n0,sky\n"),
        f"{TABLE}at least two classes are needed besides void, but it has sky",
    ),
    "only void in the table": (
        "index", table("index,name\n0,void\n"),
        f"{TABLE}at least two classes are needed besides void, but it has none",
    ),
    "two names of an index": (
        "index", table("index,name\n0,sky\n0,road\n"),
        f"{TABLE}line 3: 0 is already sky",
    ),
    "two names that look alike": (
        "index", table("index,name\n0,sky\n1,Sky\n"),
        f"{TABLE}line 3: Sky is the same name as sky, in a row above",
    ),
    "an empty name": ("index", table("index,name\n0,sky\n1,\n"), f"{TABLE}line 3: the name is empty"),
    "a separator in a name": (
        "index", table("index,name\n0,a|b\n1,c\n"),
        f'{TABLE}line 2: the name "a|b" contains |; rename it',
    ),
    "a negative index": (
        "index", table("index,name\n0,sky\n-1,road\n"),
        f'{TABLE}line 3: "-1" is not an index; it must be a whole number from 0 to 255',
    ),
    "an index with a fraction": (
        "index", table("index,name\n0,sky\n1.0,road\n"), f'{TABLE}line 3: "1.0" is not an index',
    ),
    "an index above 255": (
        "index", table("index,name\n0,sky\n256,road\n"), f'{TABLE}line 3: "256" is not an index',
    ),
    "a comma in a name": (
        "index", table("index,name\n0,sky,blue\n"), f"{TABLE}line 2 has 3 fields, the first line has 2",
    ),
    "a short colour": (
        "colour", table("colour,name\n#00f,sky\n#112233,road\n"),
        f'{TABLE}line 2: "#00f" is not a colour; write six hexadecimal digits, as #ff8000',
    ),
    "two names of a colour": (
        "colour", table("colour,name\n#0000ff,sky\n0000FF,road\n"),
        f"{TABLE}line 3: 0000FF is already sky",
    ),
    "a level above 255": (
        "colour", table("r,g,b,name\n0,0,255,sky\n0,0,300,road\n"),
        f'{TABLE}line 3: "300" is not a level',
    ),
    "two names of three levels": (
        "colour", table("r,g,b,name\n0,0,255,sky\n0,0,255,road\n"),
        f"{TABLE}line 3: 0, 0, 255 is already sky",
    ),
    "a path for a file": (
        "file", table("file,name\n,sky\nmasks/car,car\n"),
        f'{TABLE}line 3: "masks/car" is a path; write the name of one folder, or the end of a name',
    ),
    "two names of a file": (
        "file", table("file,name\ncar,car\ncar,vehicle\n"),
        f"{TABLE}line 3: the file car is in a row above",
    ),
    "two rows without a file": (
        "file", table("file,name\n,sky\n,road\n"),
        f"{TABLE}line 3: two rows without a file; the pixels that no file marks have one class",
    ),
    "a layer that is no number": (
        "file", table("file,layer,name\n,0,sky\ncar,top,car\n"),
        f"{TABLE}line 3: top is not a layer; it must be a whole number from 0 to 255",
    ),
}  # fmt: skip


def read(root: Path, scratch: Path, **changes: Any) -> None:
    """Read a collection as `prepare` does, up to the point where nothing can be wrong with masks."""
    troubles = Troubles()
    collection = find_collection(source(root, **changes), scratch / "cache", troubles)
    images = ingest(collection, LAYOUT, "decoded", False, scratch / "cache", 1, lambda count: None)
    candidates = select_candidates(collection, images)
    check_candidates(candidates, PARAMS.prepare, scratch / "problems.csv", troubles)
    troubles.refuse()


@pytest.mark.parametrize("kind", TABLES)
def test_without_a_change_nothing_is_refused(tmp_path: Path, kind: str) -> None:
    write_collection(tmp_path / "data", kind)
    read(tmp_path / "data", tmp_path, classes_file="classes.csv" if TABLES[kind] else None)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_its_message(tmp_path: Path, case: str) -> None:
    kind, change, message = CASES[case]
    root = tmp_path / "data"
    write_collection(root, kind)
    changes = {"classes_file": "classes.csv" if TABLES[kind] else None, **(change(root) or {})}
    with pytest.raises(UserError) as caught:
        read(root, tmp_path, **changes)
    assert message.format(root=root) in f"{caught.value}"


def test_the_docs_have_the_number_of_cases() -> None:
    assert len(CASES) > 30
    assert (
        f"[{len(CASES)} kinds of bad input](../tests/unit/test_bad_masks.py)"
        in (ROOT / "docs/prepare.md").read_text()
    )
