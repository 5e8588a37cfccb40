"""From image files to shards, manifest and dataset.json: what is in them, and what decides it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkroom.data import parallel
from darkroom.data.collection import SPLITS, Split, scan_collection
from darkroom.data.decode import Header, PixelLayout
from darkroom.data.info import FORMAT_VERSION, DatasetInfo, load_info
from darkroom.data.prepare import (
    MANIFEST,
    choose_layout,
    mean_and_std,
    read_headers,
    write_manifest,
    write_splits,
)
from darkroom.data.shards import Shards
from darkroom.errors import UserError

LAYOUT = PixelLayout(4, 6, 3, "stretch")
LABELS = ("cat", "dog", "owl")
PIXELS = np.random.default_rng(0).integers(0, 256, (len(LABELS), 8, 4, 6, 3), dtype=np.uint8)
"""uint8 (class, image, height, width, channels)."""
SPLITS_OF_A_CLASS: list[Split] = ["train", "train", "train", "train", "train", "val", "test", "test"]


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three class folders of eight images."""
    for label, pixels in zip(LABELS, PIXELS, strict=True):
        for index, image in enumerate(pixels):
            save(tmp_path / "images" / label / f"{index}.png", image)
    return tmp_path / "images"


@dataclass
class Prepared:
    folder: Path
    info: DatasetInfo
    manifest: pa.Table
    num_done: int

    @property
    def bytes(self) -> dict[str, bytes]:
        """Every file that was written, by its path in the folder."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


def prepare(
    images: Path, folder: Path, workers: int = 1, splits: Sequence[Split] = SPLITS_OF_A_CLASS
) -> Prepared:
    """Prepares a collection whose classes are all split in the same way."""
    collection = scan_collection(images)
    splits = list(splits) * (len(collection.files) // len(splits))
    done: list[int] = []
    info, manifest = write_splits(collection, splits, LAYOUT, folder, workers, done.append)
    write_manifest(manifest, folder / "manifest.parquet")
    (folder / "dataset.json").write_text(info.model_dump_json())
    return Prepared(folder, info, manifest, sum(done))


def of_split(split: Split) -> list[tuple[str, int]]:
    """The class and number of each image of a split, in order."""
    return [(label, i) for label in LABELS for i in range(8) if SPLITS_OF_A_CLASS[i] == split]


# What is written


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_holds_its_images_in_the_order_of_their_paths(
    images: Path, tmp_path: Path, split: Split
) -> None:
    prepare(images, tmp_path / "out")
    shards = Shards(tmp_path / "out" / split)
    assert shards.paths == [f"{label}/{i}.png" for label, i in of_split(split)]
    assert shards.labels.tolist() == [LABELS.index(label) for label, _ in of_split(split)]
    expected = [PIXELS[LABELS.index(label), i] for label, i in of_split(split)]
    assert np.array_equal(shards.gather(np.arange(len(shards))), expected)


def test_info_counts_and_describes(images: Path, tmp_path: Path) -> None:
    prepared = prepare(images, tmp_path / "out")
    info = prepared.info
    assert prepared.num_done == 24
    assert info.class_names == list(LABELS)
    assert info.counts == {
        split: {label: SPLITS_OF_A_CLASS.count(split) for label in LABELS} for split in SPLITS
    }
    assert [info.num_images(split) for split in SPLITS] == [15, 3, 6]
    assert (info.input_size, info.channels, info.resize) == ((4, 6), 3, "stretch")
    assert load_info(tmp_path / "out/dataset.json") == info


def test_mean_and_std_are_those_of_train_alone(images: Path, tmp_path: Path) -> None:
    info = prepare(images, tmp_path / "out").info
    is_train = np.array(SPLITS_OF_A_CLASS) == "train"
    scaled = PIXELS / 255
    assert info.mean == pytest.approx(scaled[:, is_train].mean((0, 1, 2, 3)), rel=1e-12)
    assert info.std == pytest.approx(scaled[:, is_train].std((0, 1, 2, 3)), rel=1e-12)
    assert info.mean != pytest.approx(scaled.mean((0, 1, 2, 3)), rel=1e-4)


def test_mean_and_std_of_many_values_and_of_a_constant() -> None:
    values = np.random.default_rng(1).normal(100, 30, (2, 100_000)).clip(0, 255).astype(np.uint8)
    histogram = np.stack([np.bincount(channel, minlength=256) for channel in values])
    mean, std = mean_and_std(histogram)
    assert mean == pytest.approx((values / 255).mean(1), rel=1e-12)
    assert std == pytest.approx((values / 255).std(1), rel=1e-12)
    assert mean_and_std(np.bincount([51] * 9, minlength=256)[None]) == ([0.2], [1.0])


def test_the_manifest_has_a_row_for_every_file(images: Path, tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0, 0, ..., 0]).save(images / "cat/0.png")  # grey
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright: 6 x 4
    Image.fromarray(PIXELS[0, 1]).save(images / "cat/1.png", "JPEG", exif=exif)
    (images / "dog/.DS_Store").write_bytes(b"x")
    manifest = prepare(images, tmp_path / "out").manifest
    paths = [f"{label}/{index}.png" for label in LABELS for index in range(8)]
    assert manifest["path"].to_pylist() == sorted(["dog/.DS_Store", *paths])
    rows = {row["path"]: row for row in manifest.to_pylist()}
    assert rows["dog/.DS_Store"] == {
        **dict.fromkeys(MANIFEST.names),
        "path": "dog/.DS_Store",
        "outcome": "hidden",
        "label": "dog",
    }
    assert rows["dog/7.png"] == {
        "path": "dog/7.png",
        "outcome": "used",
        "split": "test",
        "label": "dog",
        "file_sha256": hashlib.sha256((images / "dog/7.png").read_bytes()).hexdigest(),
        "pixel_sha256": hashlib.sha256(PIXELS[1, 7].tobytes()).hexdigest(),
        "format": "PNG",
        "mode": "RGB",
        "width": 6,
        "height": 4,
    }
    described = {
        path: [rows[path][column] for column in ("format", "mode", "width", "height")]
        for path in ("cat/0.png", "cat/1.png")
    }
    assert described == {"cat/0.png": ["PNG", "L", 6, 4], "cat/1.png": ["JPEG", "RGB", 4, 6]}
    assert pq.read_table(tmp_path / "out/manifest.parquet").equals(manifest)


# What decides it


def test_neither_workers_nor_the_folder_change_a_byte(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "dog/.hidden").touch()
    elsewhere = tmp_path / "other/place/with a longer path"
    elsewhere.parent.mkdir(parents=True)
    one = prepare(images, tmp_path / "one")
    images.rename(elsewhere)
    assert prepare(elsewhere, tmp_path / "moved").bytes == one.bytes

    pools = []

    class CountedPool(parallel.ProcessPoolExecutor):
        def __init__(self, *args: Any, **options: Any) -> None:
            pools.append(self)
            super().__init__(*args, **options)

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", CountedPool)
    monkeypatch.setattr(parallel, "SERIAL_BELOW", 0)
    monkeypatch.setattr(parallel, "CHUNK", 2)
    two = prepare(elsewhere, tmp_path / "two", workers=2)
    assert len(pools) == 1  # so there were processes
    assert len(two.bytes) == 5
    assert two.bytes == one.bytes
    assert two.num_done == one.num_done == 24


def flip_a_pixel(images: Path) -> None:
    pixels = PIXELS[1, 3].copy()
    pixels[0, 0, 0] ^= 1
    save(images / "dog/3.png", pixels)


def swap_two_labels(images: Path) -> None:
    save(images / "dog/3.png", PIXELS[0, 3])
    save(images / "cat/3.png", PIXELS[1, 3])


def nothing(images: Path) -> None:
    pass


def encode_otherwise(images: Path) -> None:
    Image.fromarray(PIXELS[1, 3]).save(images / "dog/3.png", "BMP")


def rename_a_file(images: Path) -> None:
    (images / "dog/3.png").rename(images / "dog/3.jpg")


def add_a_hidden_file(images: Path) -> None:
    (images / "dog/.DS_Store").touch()


@pytest.mark.parametrize("change", [flip_a_pixel, swap_two_labels])
def test_the_digest_follows_pixels_and_labels(images: Path, tmp_path: Path, change: Any) -> None:
    before = prepare(images, tmp_path / "before").info.digest
    change(images)
    assert prepare(images, tmp_path / "after").info.digest != before


def test_the_digest_follows_the_splits(images: Path, tmp_path: Path) -> None:
    one = prepare(images, tmp_path / "one")
    other = prepare(images, tmp_path / "other", splits=[*SPLITS_OF_A_CLASS[1:], "train"])
    assert one.info.digest != other.info.digest


@pytest.mark.parametrize("change", [nothing, encode_otherwise, rename_a_file, add_a_hidden_file])
def test_the_digest_follows_nothing_else(images: Path, tmp_path: Path, change: Any) -> None:
    before = prepare(images, tmp_path / "before").info.digest
    change(images)
    images = images.rename(tmp_path / "renamed")
    assert prepare(images, tmp_path / "after").info.digest == before


# Bad files


def make_four_bad_files(images: Path) -> None:
    (images / "cat/0.png").write_bytes(b"")
    (images / "dog/1.png").write_text("no pixels, but words")
    whole = (images / "dog/2.png").read_bytes()
    (images / "dog/2.png").write_bytes(whole[: len(whole) // 2])
    (images / "owl/7.png").unlink()
    (images / "owl/7.png").symlink_to("nowhere.png")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_bad_file_is_named_in_one_message(
    images: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "SERIAL_BELOW", 0)
    make_four_bad_files(images)
    with pytest.raises(UserError) as refused:
        prepare(images, tmp_path / "out", workers)
    first, *lines = str(refused.value).splitlines()
    assert first == f"data.path: 4 of 24 files in {images} cannot be read; repair or remove them:"
    named = [line.removeprefix(f"  {images}/").split(": ", 1) for line in lines]
    assert [path for path, _ in named] == ["cat/0.png", "dog/1.png", "dog/2.png", "owl/7.png"]
    reasons = ("empty file", "not an image", "truncated", "No such file or directory")
    assert all(reason in why for reason, (_, why) in zip(reasons, named, strict=True))


def test_a_file_is_what_it_holds_whatever_its_name(images: Path, tmp_path: Path) -> None:
    (images / "cat/0.png").rename(images / "cat/0.jpg")
    (images / "cat/1.png").rename(images / "cat/1")
    rows = prepare(images, tmp_path / "out").manifest.to_pylist()
    assert [(row["path"], row["format"]) for row in rows[:2]] == [("cat/0.jpg", "PNG"), ("cat/1", "PNG")]


def test_headers_are_read_of_all_files_that_have_one(images: Path) -> None:
    (images / "cat/0.png").write_bytes(b"")
    save(images / "cat/1.png", np.zeros((9, 5), np.uint8))
    done: list[int] = []
    headers = read_headers(scan_collection(images), 1, done.append)
    assert headers == [Header(5, 9, "L", "PNG"), *[Header(6, 4, "RGB", "PNG")] * 22]
    assert sum(done) == 24


def test_a_folder_without_a_single_image_is_refused(tmp_path: Path) -> None:
    for label in LABELS:
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "list.txt").write_text("a, b")
    with pytest.raises(UserError) as refused:
        read_headers(scan_collection(tmp_path / "images"), 1, lambda done: None)
    assert str(refused.value) == "data.path: none of the 3 files is a readable image"


# The shape


def sized(*sizes: tuple[int, int], mode: str = "RGB") -> list[Header]:
    return [Header(width, height, mode, "PNG") for height, width in sizes]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(8, 8), (8, 8)], (8, 8)),  # shared: kept, whatever it is
        ([(28, 40), (28, 40)], (28, 40)),
        ([(224, 224)], (224, 224)),
        ([(225, 225)], (224, 224)),  # shared, but larger than what is usual
        ([(100, 640)], (96, 96)),
        ([(8, 8), (8, 9)], (32, 32)),  # not shared: at least 32
        ([(100, 300), (200, 90), (64, 64)], (64, 64)),  # shorter sides 64, 90, 100: 90 down to 64
        ([(96, 200), (95, 200), (97, 200)], (96, 96)),
        ([(95, 200), (95, 201)], (64, 64)),
        ([(64, 100), (128, 100)], (64, 64)),  # of an even number, the lower one in the middle
        ([(4000, 3000), (3000, 4000)], (224, 224)),
    ],
)
def test_auto_size(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    layout = choose_layout(sized(*sizes), "auto", 3, "crop")
    assert layout == PixelLayout(*expected, 3, "crop")


def test_a_given_size_is_square_and_kept() -> None:
    assert choose_layout(sized((28, 40), (28, 40)), 50, 3, "pad") == PixelLayout(50, 50, 3, "pad")


@pytest.mark.parametrize(
    ("modes", "given", "expected"),
    [
        (["L", "1", "I;16", "LA", "I"], "auto", 1),
        (["L", "L", "P"], "auto", 3),
        (["L", "RGBA"], "auto", 3),
        (["RGB", "RGB"], 1, 1),
        (["L", "L"], 3, 3),
    ],
)
def test_channels(modes: list[str], given: Any, expected: int) -> None:
    headers = [Header(8, 8, mode, "PNG") for mode in modes]
    assert choose_layout(headers, "auto", given, "stretch") == PixelLayout(8, 8, expected, "stretch")


# dataset.json


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_info(path)
    return str(refused.value).removeprefix(f"{path}: ")


def test_a_dataset_json_that_is_missing_or_of_another_version_is_refused(
    images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "dataset.json"
    assert refusal(path) == "there is no such file; run `dvc repro prepare`"
    info = prepare(images, tmp_path / "out").info
    path.write_text(info.model_copy(update={"format_version": 99}).model_dump_json())
    assert refusal(path) == (
        f"format 99, this darkroom reads {FORMAT_VERSION}; run `dvc repro --force prepare`"
    )
