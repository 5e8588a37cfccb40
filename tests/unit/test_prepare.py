"""From image files to shards, manifest and dataset.json: what is in them, and what decides it."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from planted import photographs
from preparation import Prepared, make_config, prepare

from darkroom import parallel
from darkroom.collection.collection import find_collection
from darkroom.collection.entries import SPLITS
from darkroom.dataset.info import FORMAT_VERSION, load_info, profile
from darkroom.decoding.decode import Header, PixelLayout
from darkroom.digests import seal
from darkroom.errors import UserError
from darkroom.preparation import ingest as ingest_module
from darkroom.preparation.counts import summarise
from darkroom.preparation.layout import choose_layout, settle_layout
from darkroom.preparation.measures import measure
from darkroom.preparation.prepared_manifest import MANIFEST
from darkroom.reporting.tables import write_json

LABELS = ("cat", "dog", "owl")
PIXELS = np.random.default_rng(0).integers(0, 256, (len(LABELS), 8, 8, 8, 3), dtype=np.uint8)
"""uint8 (class, image, height, width, channels)."""
PATHS = [f"{label}/{index}.png" for label in LABELS for index in range(8)]
SPLIT_OF = ("train", "train", "train", "train", "train", "val", "test", "test")
"""Of the eight images of each class, where ``listed`` gives splits."""


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three class folders of eight images."""
    for path in PATHS:
        save(tmp_path / "images" / path, pixels_of(path))
    return tmp_path / "images"


def pixels_of(path: str) -> NDArray[np.uint8]:
    label, name = path.split("/")
    return PIXELS[LABELS.index(label), int(name.removesuffix(".png"))]


def run(images: Path, out: Path, workers: int = 1, seed: int = 0, **options: Any) -> Prepared:
    return prepare(images, out, workers, seed, **{"image_size": 8, "channels": 3} | options)


def listed(images: Path, weighted: bool = False, **changes: tuple[str, str]) -> dict[str, Any]:
    """Writes a manifest with the splits of ``SPLIT_OF``; returns the options that name it.

    Args:
        changes: path, with ``__`` for /, to its column and value.
    """
    lines = ["path,label,split,weight"]
    for path in PATHS:
        label, name = path.split("/")
        row = {"label": label, "split": SPLIT_OF[int(name[0])], "weight": ""}
        row["weight"] = "2" if weighted and name == "1.png" else ""
        row |= [changes.get(path.replace("/", "__").removesuffix(".png"), ("label", label))]
        lines.append(f"{path},{row['label']},{row['split']},{row['weight']}")
    (images / "list.csv").write_text("\n".join(lines))
    columns = {"split_column": "split"} | ({"weight_column": "weight"} if weighted else {})
    return {"manifest": "list.csv", "split": "given", **columns}


def of_split(split: str) -> list[str]:
    return [path for path in PATHS if SPLIT_OF[int(path.split("/")[1][0])] == split]


# What is written


@pytest.mark.parametrize("storage", ["decoded", "encoded"])
@pytest.mark.parametrize("split", SPLITS)
def test_each_split_holds_its_images_in_the_order_of_their_paths(
    images: Path, tmp_path: Path, split: str, storage: str
) -> None:
    shards = run(images, tmp_path / "out", storage=storage, **listed(images)).shards(split)
    paths = of_split(split)
    assert shards.paths == paths
    assert shards.labels.tolist() == [LABELS.index(path.split("/")[0]) for path in paths]
    assert shards.weights is None
    assert np.array_equal(shards.gather(np.arange(len(shards))), [pixels_of(path) for path in paths])


def test_shards_hold_the_weights_that_the_manifest_gives(images: Path, tmp_path: Path) -> None:
    shards = run(images, tmp_path / "out", **listed(images, weighted=True)).shards("train")
    assert shards.weights is not None
    assert shards.weights.tolist() == [2 if path.endswith("/1.png") else 1 for path in shards.paths]


def test_further_columns_and_the_size_of_each_file_are_kept(images: Path, tmp_path: Path) -> None:
    options = listed(images, weighted=True)
    first, *rows = (images / "list.csv").read_text().splitlines()
    own = [f"{row},{'north' if number % 3 else ''}" for number, row in enumerate(rows)]
    (images / "list.csv").write_text("\n".join([f"{first},site", *own[:-1], f"{rows[-1]},south"]))
    left = run(images, tmp_path / "out", **options).rows
    assert all(left[path]["file_bytes"] == (images / path).stat().st_size for path in PATHS)
    values = [json.loads(left[path]["own_values"] or "{}").get("site") for path in PATHS]
    assert values == [*("north" if number % 3 else None for number in range(len(PATHS) - 1)), "south"]


def test_info_counts_and_describes(images: Path, tmp_path: Path) -> None:
    left = run(images, tmp_path / "out", resize="pad", **listed(images))
    info = left.info
    assert left.num_done == 24
    assert info.class_names == list(LABELS)
    assert info.counts == {split: {label: SPLIT_OF.count(split) for label in LABELS} for split in SPLITS}
    assert [info.num_images(split) for split in SPLITS] == [15, 3, 6]
    assert (info.input_size, info.channels, info.resize) == ((8, 8), 3, "pad")
    assert load_info(tmp_path / "out/dataset.json") == info


def test_mean_and_std_are_those_of_train_alone(images: Path, tmp_path: Path) -> None:
    info = run(images, tmp_path / "out", **listed(images)).info
    is_train = np.array(SPLIT_OF) == "train"
    scaled = PIXELS / 255
    assert info.mean == pytest.approx(scaled[:, is_train].mean((0, 1, 2, 3)), rel=1e-12)
    assert info.std == pytest.approx(scaled[:, is_train].std((0, 1, 2, 3)), rel=1e-12)
    assert info.mean != pytest.approx(scaled.mean((0, 1, 2, 3)), rel=1e-4)


def test_the_manifest_says_all_that_is_known(images: Path, tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0, 0, ..., 0]).save(images / "cat/0.png")  # grey
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright: 6 x 8
    Image.fromarray(PIXELS[0, 1, :6]).save(images / "cat/1.png", "JPEG", exif=exif)
    frames = [Image.fromarray(PIXELS[0, 2]), Image.fromarray(PIXELS[0, 3])]
    frames[0].save(images / "cat/2.png", "WEBP", save_all=True, append_images=frames[1:])
    (images / "dog/.DS_Store").write_bytes(b"x")
    left = run(images, tmp_path / "out", **listed(images, weighted=True))
    assert pq.read_schema(tmp_path / "out/manifest.parquet").equals(MANIFEST)
    rows = left.rows
    assert list(rows) == sorted(["dog/.DS_Store", "list.csv", *PATHS])
    assert rows["dog/.DS_Store"] == {
        **dict.fromkeys(MANIFEST.names),
        "path": "dog/.DS_Store",
        "outcome": "hidden",
        "reason": "",
    }
    measured = measure(PIXELS[1:2, 1])
    assert rows["dog/1.png"] == {
        "path": "dog/1.png",
        "outcome": "used",
        "reason": "",
        "split": "train",
        "label": "dog",
        "group": None,
        "weight": 2.0,
        "duplicate_of": None,
        "difference": None,
        "file_sha256": hashlib.sha256((images / "dog/1.png").read_bytes()).hexdigest(),
        "pixel_sha256": hashlib.sha256(PIXELS[1, 1].tobytes()).hexdigest(),
        "format": "PNG",
        "mode": "RGB",
        "width": 8,
        "height": 8,
        "animated": False,
        "brightness": measured.brightness[0],
        "sharpness": measured.sharpness[0],
        "file_bytes": (images / "dog/1.png").stat().st_size,
        "own_values": None,
    }
    columns = ("format", "mode", "width", "height", "animated")
    assert [tuple(rows[f"cat/{index}.png"][column] for column in columns) for index in range(3)] == [
        ("PNG", "L", 8, 8, False),
        ("JPEG", "RGB", 6, 8, False),
        ("WEBP", "RGB", 8, 8, True),
    ]


def test_shards_of_a_larger_set_do_not_stay(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    stale = tmp_path / "out/prepared/train/00001.arrow"
    shutil.copy(tmp_path / "out/prepared/train/00000.arrow", stale)
    left = run(images, tmp_path / "out")
    assert not stale.exists()
    assert len(left.shards("train")) == left.info.num_images("train")


def test_counts_add_up_to_the_files_found(images: Path, tmp_path: Path) -> None:
    save(images / "cat/copy.png", PIXELS[0, 0])
    save(images / "cat/both.png", PIXELS[0, 1])
    save(images / "dog/both.png", PIXELS[0, 1])
    (images / "cat/empty").touch()
    (images / "dog/.hidden").touch()
    (images / "notes.txt").touch()
    left = run(images, tmp_path / "out", duplicates="drop", on_conflict="drop", on_bad_image="skip")
    files = {name: number for name, number in left.counts["num_files"].items() if number}
    assert files == {
        "used": 23,
        "empty": 1,
        "conflicting_label": 3,
        "duplicate": 1,
        "hidden": 1,
        "unlisted": 1,
    }
    assert sum(files.values()) == len(left.rows) == len(PATHS) + 6
    assert sum(left.counts["num_images"].values()) == left.num_done == len(left.pixels) == 23
    assert {row["path"] for row in left.problems} == set(left.rows) - set(left.splits)
    assert left.counts["num_pairs"] == {"same_pixels": 3, "nearly_same_pixels": 0}
    images_by_split = left.counts["num_images"]
    assert summarise(left.info, left.counts) == (
        "prepare: 23 images of 3 classes as 8 x 8 x 3: "
        + ", ".join(f"{images_by_split[split]} {split}" for split in SPLITS)
        + "; excluded: 1 empty, 3 conflicting label, 1 duplicate, 1 hidden, 1 unlisted"
        "; 3 pairs with same pixels"
    )


def test_where_nothing_is_left_out_the_summary_says_nothing_of_it(images: Path, tmp_path: Path) -> None:
    left = run(images, tmp_path / "out", val_fraction=0.25, test_fraction=0.25)
    assert summarise(left.info, left.counts) == (
        "prepare: 24 images of 3 classes as 8 x 8 x 3: 12 train, 6 val, 6 test"
    )


# What decides on the bytes


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """Two classes with copies, near copies, and files that cannot be used."""
    folder = tmp_path / "everything"
    pixels = photographs(40, 24, seed=7)
    for index, image in enumerate(pixels):
        save(folder / f"{'cat' if index < 20 else 'dog'}/{index}.png", image)
    for index in (3, 7, 24):
        label = "cat" if index < 20 else "dog"
        Image.fromarray(pixels[index]).save(folder / f"{label}/copy-{index}.bmp")
        Image.fromarray(pixels[index] + 8).save(folder / f"{label}/near-{index}.jpg", quality=90)
    (folder / "cat/empty.png").touch()
    (folder / "dog/words.jpg").write_text("words")
    (folder / "dog/.hidden").touch()
    (folder / "notes.txt").write_text("notes")
    return folder


OPTIONS = {"image_size": 16, "on_bad_image": "skip"}


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets even small collections be worth processes; returns how many were asked for, each time."""
    pools: list[int] = []

    class CountedPool(parallel.ProcessPoolExecutor):
        def __init__(self, workers: int, *args: Any, **options: Any) -> None:
            pools.append(workers)
            super().__init__(workers, *args, **options)

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", CountedPool)
    monkeypatch.setattr(ingest_module, "SERIAL_FILES", 0)
    monkeypatch.setattr(ingest_module, "CHUNK_FILES", 7)
    return pools


@pytest.mark.parametrize(
    ("workers", "channels", "storage", "pools"),
    [
        (2, "auto", "decoded", [2, 2]),  # for auto, headers are read first
        pytest.param(4, 3, "encoded", [4], marks=pytest.mark.slow),
    ],
)
def test_neither_workers_nor_the_folder_change_a_byte(
    everything: Path,
    tmp_path: Path,
    in_processes: list[int],
    workers: int,
    channels: Any,
    storage: str,
    pools: list[int],
) -> None:
    options = {"channels": channels, "storage": storage, **OPTIONS}
    one = run(everything, tmp_path / "one", **options)
    assert in_processes == []
    elsewhere = tmp_path / "other/place/with a longer path"
    elsewhere.parent.mkdir(parents=True)
    everything.rename(elsewhere)
    other = run(elsewhere, tmp_path / "there/out", workers, **options)
    assert in_processes == pools
    assert sorted(other.files) == [
        "dataset.json",
        "duplicates.csv",
        "manifest.parquet",
        *(f"prepared/{split}/00000.arrow" for split in sorted(SPLITS)),
        "problems.csv",
    ]
    assert other.files == one.files


def test_another_seed_changes_bytes(everything: Path, tmp_path: Path) -> None:
    one, other = (run(everything, tmp_path / f"{seed}", seed=seed, **OPTIONS) for seed in (0, 1))
    changed = {name for name in one.files if one.files[name] != other.files[name]}
    assert {"dataset.json", "manifest.parquet", "prepared/train/00000.arrow"} <= changed
    assert "duplicates.csv" not in changed


def test_what_an_earlier_run_has_decoded_changes_no_byte(everything: Path, tmp_path: Path) -> None:
    """The cache holds other segments, so images have other places in it."""
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in ("cat/1.png", "cat/3.png", "dog/30.png", "dog/words.jpg"):
        (everything / path).rename(aside / path.replace("/", "-"))
    before = run(everything, tmp_path / "out", **OPTIONS)
    for path in ("cat/1.png", "cat/3.png", "dog/30.png", "dog/words.jpg"):
        (aside / path.replace("/", "-")).rename(everything / path)
    after = run(everything, tmp_path / "out", **OPTIONS)
    clean = run(everything, tmp_path / "clean", **OPTIONS)
    assert after.files == clean.files
    assert after.info.digest != before.info.digest


def test_a_tar_is_as_good_as_the_folder(everything: Path, tmp_path: Path) -> None:
    tar = tmp_path / "images.tar"
    subprocess.run(["tar", "-cf", tar, "-C", everything, "."], check=True)
    assert (
        run(tar, tmp_path / "tar", **OPTIONS).files == run(everything, tmp_path / "out", **OPTIONS).files
    )


def test_storage_changes_neither_pixels_nor_digest(everything: Path, tmp_path: Path) -> None:
    decoded = run(everything, tmp_path / "decoded", storage="decoded", **OPTIONS)
    encoded = run(everything, tmp_path / "encoded", storage="encoded", **OPTIONS)
    assert encoded.pixels == decoded.pixels
    assert profile(encoded.info.model_dump()) == profile(decoded.info.model_dump())
    assert encoded.info.files != decoded.info.files
    assert encoded.rows == decoded.rows
    changed = {name for name in encoded.files if encoded.files[name] != decoded.files[name]}
    assert changed == {*(f"prepared/{split}/00000.arrow" for split in SPLITS), "dataset.json"}


@settings(deadline=None, derandomize=True, max_examples=10)
@given(order=st.permutations(PATHS), prefix=st.text("abc /", min_size=1, max_size=8))
def test_neither_the_order_on_disk_nor_the_prefix_of_paths_matters(
    order: list[str], prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("order")
    names = [f"x{name}" for name in prefix.split("/")]
    images = folder.joinpath(*names)
    for path in order:
        save(images / path, pixels_of(path))
    assert run(images, folder / "out").files == run_in_order(tmp_path_factory)


def run_in_order(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.getbasetemp() / "in order"
    if not folder.exists():
        for path in PATHS:
            save(folder / "images" / path, pixels_of(path))
        run(folder / "images", folder / "out")
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    relative = {path.relative_to(folder / "out").as_posix(): path for path in left}
    return {name: path.read_bytes() for name, path in relative.items() if "cache/" not in name}


# The digest


def flip_a_pixel(images: Path) -> None:
    pixels = PIXELS[1, 3].copy()
    pixels[0, 0, 0] ^= 1
    save(images / "dog/3.png", pixels)


def swap_two_labels(images: Path) -> None:
    save(images / "dog/3.png", PIXELS[0, 3])
    save(images / "cat/3.png", PIXELS[1, 3])


def rename_a_class(images: Path) -> None:
    (images / "dog").rename(images / "fox")


def remove_an_image(images: Path) -> None:
    (images / "dog/3.png").unlink()


def add_a_copy(images: Path) -> None:
    save(images / "dog/copy.png", PIXELS[1, 3])


def nothing(images: Path) -> None:
    pass


def encode_otherwise(images: Path) -> None:
    Image.fromarray(PIXELS[1, 3]).save(images / "dog/3.png", "BMP")


def rename_files(images: Path) -> None:
    for index in range(8):
        (images / f"dog/{index}.png").rename(images / f"dog/z{7 - index}.jpg")


def add_a_hidden_file(images: Path) -> None:
    (images / "dog/.DS_Store").touch()


SAME_SPLITS: dict[str, Any] = {"split": "stable", "seed": 6, "val_fraction": 0.3, "test_fraction": 0.3}
"""By content, so that other names leave each image in its split."""


@pytest.mark.parametrize(
    "change", [flip_a_pixel, swap_two_labels, rename_a_class, remove_an_image, add_a_copy]
)
def test_the_digest_follows_pixels_and_labels(images: Path, tmp_path: Path, change: Any) -> None:
    before = run(images, tmp_path / "before", **SAME_SPLITS).info.digest
    change(images)
    assert run(images, tmp_path / "after", **SAME_SPLITS).info.digest != before


@pytest.mark.parametrize("change", [nothing, encode_otherwise, rename_files, add_a_hidden_file])
def test_the_digest_follows_nothing_else(images: Path, tmp_path: Path, change: Any) -> None:
    before = run(images, tmp_path / "before", **SAME_SPLITS).info.digest
    change(images)
    images = images.rename(tmp_path / "renamed")
    assert run(images, tmp_path / "after", **SAME_SPLITS).info.digest == before


@pytest.mark.parametrize(
    "change", [("split", "test"), ("weight", "3"), ("label", "dog")], ids=["split", "weight", "label"]
)
def test_the_digest_follows_what_a_manifest_says(
    images: Path, tmp_path: Path, change: tuple[str, str]
) -> None:
    one = run(images, tmp_path / "one", **listed(images, weighted=True))
    again = run(images, tmp_path / "again", **listed(images, weighted=True))
    other = run(images, tmp_path / "other", **listed(images, weighted=True, cat__3=change))
    assert again.info.digest == one.info.digest != other.info.digest


def test_a_weight_of_one_is_no_weight(images: Path, tmp_path: Path) -> None:
    one = run(images, tmp_path / "one", **listed(images, weighted=True))
    other = run(images, tmp_path / "other", **listed(images, weighted=True, cat__3=("weight", "1")))
    assert other.info.digest == one.info.digest


# Splits, from files to shards


def photograph_folder(folder: Path, indices: range, size: int = 16) -> Path:
    for index in indices:
        pixels = photographs(1, size, seed=1000 + index)[0]
        save(folder / f"{('cat', 'dog')[index % 2]}/{index:04d}.png", pixels)
    return folder


STABLE: dict[str, Any] = {"split": "stable", "image_size": 16}


def test_new_images_never_move_an_old_one(tmp_path: Path) -> None:
    """Among the new are copies of old ones, exact and near, under names that come first."""
    folder = photograph_folder(tmp_path / "images", range(120))
    before = run(folder, tmp_path / "before", **STABLE).splits
    photograph_folder(folder, range(120, 180))
    for index in range(0, 40, 2):
        pixels = photographs(1, 16, seed=1000 + index)[0]
        save(folder / f"cat/!copy-{index}.png", pixels)
        save(folder / f"cat/!near-{index}.png", pixels + 9)
    for policy in ("group", "drop", "keep"):
        after = run(folder, tmp_path / policy, duplicates=policy, **STABLE)
        assert len(after.info.counts) == 3
        old = {path: split for path, split in after.splits.items() if path in before}
        assert old.items() <= before.items()
        left_out = {path: after.outcomes[path] for path in before if path not in old}
        assert set(left_out.values()) <= {"duplicate"}
        assert (len(left_out) > 0) == (policy != "keep")
        assert len(after.splits) > len(before)


def test_a_group_that_the_collection_gives_is_in_one_split(tmp_path: Path) -> None:
    """Also with ``stable``, where a new member follows the old ones, and none is left out."""
    folder = photograph_folder(tmp_path / "images", range(120))
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    options = {**STABLE, "manifest": "list.csv", "group_column": "group"}
    found = {}
    for count in (100, 120):
        lines = [f"{path},{path[:3]},{index % 40}" for index, path in enumerate(paths)]
        lines = [line for line in lines if int(line[4:8]) < count]
        (folder / "list.csv").write_text("\n".join(["path,label,group", *lines]))
        left = run(folder, tmp_path / f"{count}", **options)
        found[count] = {(row["group"], row["split"]) for row in left.rows.values() if row["group"]}
        assert len(found[count]) == 40
        assert None not in {split for _, split in found[count]}
        assert left.counts["num_files"]["used"] == count
    assert found[100] == found[120]
    without = run(folder, tmp_path / "without", **STABLE, manifest="list.csv").splits
    assert len({(paths.index(path) % 40, split) for path, split in without.items()}) > 40


def test_with_stratified_splits_new_images_move_old_ones(tmp_path: Path) -> None:
    folder = photograph_folder(tmp_path / "images", range(120))
    before = run(folder, tmp_path / "before", image_size=16).splits
    photograph_folder(folder, range(120, 180))
    after = run(folder, tmp_path / "after", image_size=16).splits
    assert any(after[path] != split for path, split in before.items())


@pytest.mark.parametrize("split", ["stratified", "stable"])
def test_the_test_splits_of_all_folds_are_all_images(tmp_path: Path, split: str) -> None:
    folder = photograph_folder(tmp_path / "images", range(60))
    for index in range(0, 20, 5):  # groups
        pixels = photographs(1, 16, seed=1000 + index)[0]
        save(folder / f"{('cat', 'dog')[index % 2]}/copy-{index}.png", pixels)
    tests = []
    for fold in ("1/3", "2/3", "3/3"):
        splits = run(folder, tmp_path / fold, split=split, fold=fold, image_size=16).splits
        assert len(splits) == 64
        tests.append({path for path, name in splits.items() if name == "test"})
    assert sum(map(len, tests)) == 64
    assert len(set.union(*tests)) == 64
    if split == "stratified":
        assert {len(test) for test in tests} <= {20, 21, 22, 23}


def test_a_split_at_fault_is_refused_with_paths(images: Path, tmp_path: Path) -> None:
    """One that comes earlier is left out before."""
    save(images / "cat/1.png", PIXELS[0, 0])
    options = listed(images, cat__3=("split", ""), owl__0=("split", "")) | {"duplicates": "drop"}
    with pytest.raises(UserError, match=r"2 of 23 images have no split; .*: cat/3\.png, owl/0\.png$"):
        run(images, tmp_path / "out", **options)


# Odd files


def test_a_file_is_what_it_holds_whatever_its_name(images: Path, tmp_path: Path) -> None:
    (images / "cat/0.png").rename(images / "cat/0.jpg")
    (images / "cat/1.png").rename(images / "cat/1")
    rows = run(images, tmp_path / "out").rows
    assert [(path, rows[path]["format"]) for path in ("cat/0.jpg", "cat/1")] == [
        ("cat/0.jpg", "PNG"),
        ("cat/1", "PNG"),
    ]


# The layout


def sized(*sizes: tuple[int, int], mode: str = "RGB") -> list[Header]:
    return [Header(width, height, mode, "PNG", False) for height, width in sizes]


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
        ([(100, 100)] * 2059 + [(3000, 2000), (31, 20), (100, 101)], (100, 100)),  # outliers
        ([(28, 40)] * 19 + [(600, 400)], (28, 40)),  # 95 % share a shape
        ([(600, 400)] + [(28, 40)] * 19, (28, 40)),
        ([(28, 40)] * 18 + [(600, 400)], (32, 32)),  # 94.7 % do
        ([(28, 40)] * 94 + [(40, 28)] * 6, (32, 32)),  # turned is another shape
        ([(500, 375)] * 99 + [(64, 64)], (224, 224)),  # shared, but larger than what is usual
        ([(100, 640)] * 99 + [(64, 64)], (96, 96)),
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
    headers = [Header(8, 8, mode, "PNG", False) for mode in modes]
    assert choose_layout(headers, "auto", given, "stretch") == PixelLayout(8, 8, expected, "stretch")


def test_headers_are_taken_one_by_one() -> None:
    def headers() -> Iterator[Header]:
        for width in range(40, 140):
            yield Header(width, 300, "L", "PNG", False)

    assert choose_layout(headers(), "auto", "auto", "crop") == PixelLayout(64, 64, 1, "crop")


def test_without_a_header_there_is_no_layout() -> None:
    with pytest.raises(UserError, match=r"^data\.path: none of the files is a readable image$"):
        choose_layout(iter([]), "auto", 3, "stretch")


@pytest.mark.parametrize(
    ("options", "are_read", "shape"),
    [
        ({"image_size": "auto", "channels": "auto"}, True, (64, 64, 3)),
        ({"image_size": 16, "channels": "auto"}, True, (16, 16, 3)),
        ({"image_size": "auto", "channels": 1}, True, (64, 64, 1)),
        ({"image_size": 16, "channels": 1}, False, (16, 16, 1)),
        ({"image_size": [16, 24], "channels": 1}, False, (16, 24, 1)),
        ({"image_size": [16, 24], "channels": "auto"}, True, (16, 24, 3)),
    ],
)
def test_headers_are_read_only_where_the_layout_depends_on_them(
    images: Path, tmp_path: Path, options: dict[str, Any], are_read: bool, shape: tuple[int, int, int]
) -> None:
    for index in range(30):  # more than the others, which are of 8 x 8 pixels
        save(images / f"cat/wide-{index}.png", np.full((70 + index, 140), index, np.uint8))
    (images / "dog/0.png").write_bytes(b"")
    (images / "owl/.hidden").touch()
    config = make_config(images, **options)
    done: list[int] = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    collection = find_collection(config.data, scratch)
    assert settle_layout(collection, config.prepare, 1, done.append).shape == shape
    assert sum(done) == (len(PATHS) + 30 if are_read else 0)


# dataset.json


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_info(path)
    return str(refused.value).removeprefix(f"{path}: ")


REMEDY = (
    "); `darkroom verify` tells whether DVC's cache has the file, `dvc repro --force prepare` creates"
    " it again"
)


def test_a_dataset_json_that_is_missing_or_of_another_version_is_refused(
    images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "dataset.json"
    assert refusal(path) == "the file does not exist; run `dvc repro prepare`"
    info = run(images, tmp_path / "out").info
    for version, age in ((1, "an earlier"), (99, "another")):
        write_json(info.model_copy(update={"format_version": version}).to_document(), path)
        assert refusal(path) == (
            f"format {version}, written by {age} version of darkroom; this version reads"
            f" {FORMAT_VERSION}; "
            "run `dvc repro --force prepare`"
        )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON with a format_version"),
        ("[]", "not JSON with a format_version"),
        ("[" * 100_000, "not JSON with a format_version"),
        ("\xff", "not JSON with a format_version: 'utf-8' codec"),
        ('{"class_names": []}', "not JSON with a format_version"),
        (f'{{"format_version": {FORMAT_VERSION}}}', "no content_sha256"),
        (json.dumps(seal({"format_version": FORMAT_VERSION})), "class_names: Field required"),
    ],
)
def test_a_dataset_json_that_is_damaged_or_lacks_a_field_is_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(text.encode("latin-1"))
    said = refusal(path)
    assert said.startswith(f"damaged, or not written by darkroom ({problem}")
    assert said.endswith(REMEDY)


def test_a_changed_value_in_dataset_json_is_refused(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    info = run(images, tmp_path / "out").info
    write_json(info.to_document(), path)
    assert load_info(path) == info
    text = path.read_text()
    mean = f"{info.mean[0]}"
    for old, new in ((mean, f"{mean[:10]}{(int(mean[10]) + 1) % 10}{mean[11:]}"), ('"cat"', '"cau"')):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        assert "content_sha256 belongs to other values" in refusal(path)
