"""Masks with one file per class: where files are found, and that they give the mask that was divided."""

import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_mask_preparation import MANY, NAMES, SIDE, Mask, image_of, listed, outcomes, prepared
from test_masks import png

from darkroom.collection.mask_classes import MaskClasses, read_mask_classes
from darkroom.collection.masks import pair_masks
from darkroom.decoding.class_files import EncodedMask, decode_class_files
from darkroom.decoding.decode import PixelLayout
from darkroom.decoding.masks import decode_mask
from darkroom.void import VOID

TABLE = "file,name\n,sky\nroad,road\nleft_car,car\nignore,void\n"
FILES = {"road": 1, "left_car": 2, "ignore": VOID}
"""The classes that have a file; sky is what no file marks."""

FOLDER, ENDING, BOTH = (
    "masks/{part}/{name}.png",
    "masks/{name}_{part}.png",
    "masks/{part}/{name}_{part}.png",
)


def divide(root: Path, masks: dict[str, Mask], arrangement: str, keep_black: bool = False) -> Path:
    """Write a collection in which each class has a file, and those that are not shown have none."""
    for number, (name, mask) in enumerate(masks.items()):
        files = {f"images/{name}.png": png(image_of(mask, number))}
        for part, code in FILES.items():
            if keep_black or (mask == code).any():
                marks = ((mask == code) * 255).astype(np.uint8)
                files[arrangement.format(part=part, name=name)] = png(marks)
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    (root / "classes.csv").write_text(TABLE)
    return root


@pytest.mark.parametrize("arrangement", [FOLDER, ENDING, BOTH, "masks/{name}__{part}.png"])
@pytest.mark.parametrize("keep_black", [True, False])
def test_a_mask_in_parts_is_the_mask_that_was_divided(
    tmp_path: Path, arrangement: str, keep_black: bool
) -> None:
    made = prepared(divide(tmp_path / "data", MANY, arrangement, keep_black), tmp_path)
    assert made.info.class_names == NAMES
    seen = set()
    for split in ("train", "val", "test"):
        shards = made.split(split)
        every = np.arange(len(shards))
        for path, mask in zip(shards.paths, shards.gather_masks(every)[..., 0], strict=True):
            assert (mask == MANY[Path(path).stem]).all()
            seen.add(Path(path).stem)
    assert seen == set(MANY)
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "manifest.parquet").to_pylist()}
    assert set(rows) == {f"images/{name}.png" for name in MANY} | {"classes.csv"}
    parts = [arrangement.format(part=part, name="05") for part in FILES]
    assert rows["images/05.png"]["mask"] == "|".join(parts)


def test_a_tar_and_split_folders_hold_parts_too(tmp_path: Path) -> None:
    masks = {f"{split}/{name}": MANY[name] for split, names in (
        ("train", ("05", "10", "15")), ("val", ("20", "25")), ("test", ("30", "35"))
    ) for name in names}  # fmt: skip
    root = divide(tmp_path / "data", masks, FOLDER)
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        for path in sorted(root.rglob("*.*")):
            tar.add(path, path.relative_to(root))
    made = prepared(tmp_path / "data.tar", tmp_path)
    assert [made.info.num_images(split) for split in ("train", "val", "test")] == [3, 2, 2]
    shards = made.split("val")
    expected = [masks[path.removeprefix("images/").removesuffix(".png")] for path in shards.paths]
    assert (shards.gather_masks(np.arange(2))[..., 0] == expected).all()


def test_a_part_that_changes_or_moves_to_another_class_is_read_again(tmp_path: Path) -> None:
    root = divide(tmp_path / "data", {name: MANY[name] for name in ("05", "10", "15")}, ENDING)
    before = listed(root, tmp_path)[1].positions
    (root / "masks/05_road.png").write_bytes(png(np.zeros((SIDE, SIDE), np.uint8)))
    (root / "masks/10_left_car.png").unlink()
    (root / "masks/10_road.png").rename(root / "masks/10_left_car.png")
    found = listed(root, tmp_path)[1]
    assert (found.positions == before).tolist() == [False, False, True]
    assert found.masks is not None
    assert (found.masks.pixels(0) == np.where(MANY["05"] == 1, 0, MANY["05"])).all()
    renamed = np.where(MANY["10"] == 1, 2, 0)
    assert (found.masks.pixels(1) == np.where(MANY["10"] == VOID, VOID, renamed)).all()


def classes(table: str = TABLE) -> MaskClasses:
    return read_mask_classes("classes.csv", table.encode())


def found(*paths: str) -> dict[str, dict[str, str]]:
    """The path of each part by what the table calls it, for each image."""
    known = classes()
    pairs = pair_masks(paths, known)
    return {
        image: {known.files[file.value].text: file.path for file in files}
        for image, files in pairs.masks.items()
    }


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ("images/1.jpg", "masks/road/1.png"),
        ("images/1.jpg", "masks/1_road.png"),
        ("images/1.jpg", "masks/1__road.png"),
        ("images/1.jpg", "masks/road/1_mask.png"),
        ("images/1.jpg", "masks/road/1_road.png"),
        ("Images/a/1.jpg", "Masks/a/road/1.png"),
        ("images/a/1.jpg", "masks/road/a/1.png"),
        ("a/images/1.jpg", "a/masks/road/1.png"),
        ("images/road/1.jpg", "masks/road/road/1.png"),
        ("images/1_road.jpg", "masks/1_road_road.png"),
        ("images/a b_.jpg", "masks/a b__road.png"),
    ],
)
def test_parts_are_found_by_a_folder_or_the_end_of_their_name(image: str, part: str) -> None:
    assert found(image, part) == {image: {"road": part}}


def test_the_longest_name_of_an_image_counts() -> None:
    assert found(
        "images/1.jpg", "images/1_mask.jpg", "masks/road/1.png", "masks/road/1_mask.png"
    ) == {
        "images/1.jpg": {"road": "masks/road/1.png"},
        "images/1_mask.jpg": {"road": "masks/road/1_mask.png"},
    }  # fmt: skip


LAYOUT = PixelLayout(2, 3, 3, "stretch")
LOW = np.array([[1, 1, 1], [0, 0, 0]], np.uint8)
HIGH = np.array([[0, 1, 1], [0, 1, 0]], np.uint8)


@pytest.mark.parametrize(("below", "above"), [(0, 3), (3, 0)])
def test_where_files_overlap_the_highest_layer_counts(below: int, above: int) -> None:
    known = classes(f"file,layer,name\n,0,sky\nskin,{below},skin\nnose,{above},nose\n")
    files = [EncodedMask("skin.png", 1, png(LOW)), EncodedMask("nose.png", 2, png(HIGH))]
    expected = [[1, 2, 2], [0, 2, 0]] if above > below else [[1, 1, 1], [0, 2, 0]]
    assert decode_class_files(files, known, (3, 2), LAYOUT).tolist() == expected
    assert decode_class_files(files[::-1], known, (3, 2), LAYOUT).tolist() == expected


@pytest.mark.parametrize("white", [1, 255])
def test_marks_may_be_grey_indexed_or_black_and_white_colours(white: int) -> None:
    known = classes("file,name\na,a\n,b\n")
    marks = HIGH * white
    indexed = Image.fromarray(HIGH).convert("P")
    grey, coloured = png(marks), png(np.dstack([HIGH * 255] * 3))
    for content in (grey, coloured, png(indexed), png(Image.fromarray(HIGH > 0))):
        mask = decode_class_files([EncodedMask("a.png", 0, content)], known, (3, 2), LAYOUT)
        assert (mask == 1 - HIGH).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_parts_are_joined_before_they_are_resized(resize: str) -> None:
    random = np.random.default_rng(0)
    whole = random.integers(0, 3, (30, 40), dtype=np.uint8)
    known = classes("file,name\na,a\nb,b\nc,c\n")
    parts = [EncodedMask(f"{code}", code, png((whole == code) * np.uint8(255))) for code in range(3)]
    layout = PixelLayout(17, 11, 3, resize)  # type: ignore[arg-type]
    in_one = read_mask_classes("classes.csv", b"index,name\n0,a\n1,b\n2,c\n")
    expected = decode_mask(png(whole), in_one, (40, 30), layout)
    assert (decode_class_files(parts, known, (40, 30), layout) == expected).all()


def test_a_stray_part_is_unlisted_and_one_of_no_class_is_not_passed_over(tmp_path: Path) -> None:
    root = divide(tmp_path / "data", {name: MANY[name] for name in ("05", "10")}, FOLDER)
    for path in ("masks/road/99.png", "masks/bus/10.png"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes((root / "masks/road/05.png").read_bytes())
    seen = outcomes(root, tmp_path)
    assert seen["images/05.png"][0] == "used"
    assert seen["masks/road/99.png"] == ("unlisted", "a mask without an image")
    assert seen["images/10.png"][0] == "unreadable"
    assert "masks/bus/10.png is of no class in classes.csv" in seen["images/10.png"][1]
