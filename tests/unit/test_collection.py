"""Finding labelled images: class folders, given splits, what is set apart, what is refused."""

import json
import math
import os
import random
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from darkroom.collection import entry_table
from darkroom.collection.archive import pack
from darkroom.collection.collection import Collection, find_collection
from darkroom.collection.entries import SPLIT_NAMES
from darkroom.collection.entry_table import SCHEMA
from darkroom.config.data import DataSource
from darkroom.errors import UserError, listed

Row = tuple[str, str | None, str | None]


def source(path: Path, **changes: Any) -> DataSource:
    values = {
        "path": str(path),
        "class_name": "top",
        "manifest": None,
        "path_column": "path",
        "label_column": "label",
        "label_separator": None,
        "split_column": None,
        "group_column": None,
        "weight_column": None,
        "table": None,
        "columns": {},
        "image_root": None,
        "merge_labels": {},
        "group_pattern": None,
        "slice_columns": "auto",
        "masks": "auto",
        "mask_column": None,
        "classes_file": None,
        "void": "void",
    }
    return DataSource(**{**values, **changes})


def find(path: Path, **changes: Any) -> Collection:
    """Finds a collection, with a scratch folder beside it."""
    return find_collection(source(path, **changes), path.parent / ".darkroom")


def make_files(root: Path, *paths: str) -> Path:
    """Makes a file that holds its own path for each, and an empty folder where one ends in a slash."""
    root.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(path.encode())
    return root


def found(collection: Collection) -> list[Row]:
    """Path, label and split of what is to be read."""
    return [(e.path, e.label, e.split) for e in collection.rows() if e.outcome is None]


def set_apart(collection: Collection) -> dict[str, tuple[str, str | None, str]]:
    """Outcome, label and reason of what is not read, by path."""
    return {e.path: (e.outcome, e.label, e.reason) for e in collection.rows() if e.outcome}


STRAY = ("unlisted", None, "outside of the class folders")
HIDDEN = ("hidden", None, "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


# Labels


def test_class_folders_give_labels(root: Path) -> None:
    make_files(root, "dog/2.jpg", "cat/b.png", "cat/a.png", "dog/1.jpg")
    collection = find(root)
    assert found(collection) == [
        ("cat/a.png", "cat", None),
        ("cat/b.png", "cat", None),
        ("dog/1.jpg", "dog", None),
        ("dog/2.jpg", "dog", None),
    ]
    assert set_apart(collection) == {}
    assert collection.num_to_read == 4
    assert collection.table.schema == SCHEMA
    for entry in collection.rows():
        assert (entry.group, entry.weight, entry.size) == (None, None, len(entry.path))
        content = collection.files.read(entry.path, entry.offset, entry.size)
        assert content == entry.path.encode()


@pytest.mark.parametrize(
    ("class_name", "labels"),
    [
        ("top", ["cat", "cat", "cat", "dog"]),
        ("path", ["cat", "cat/kittens", "cat/kittens/black", "dog"]),
        ("leaf", ["cat", "kittens", "black", "dog"]),
    ],
)
@pytest.mark.parametrize("split", [None, "train"])
def test_nested_folders(root: Path, class_name: str, labels: list[str], split: str | None) -> None:
    paths = ["cat/1.png", "cat/kittens/2.png", "cat/kittens/black/3.png", "dog/4.png"]
    paths = [f"{split}/{path}" if split else path for path in paths]
    collection = find(make_files(root, *paths), class_name=class_name)
    expected = [(path, label, split) for path, label in zip(paths, labels, strict=True)]
    assert found(collection) == expected


def test_classes_are_told_apart_by_their_whole_name(root: Path) -> None:
    names = ["007", "7", "NA", "null", "cat", "cats", "c a t", "ünï"]
    collection = find(make_files(root, *(f"{name}/1.png" for name in names)))
    assert {(path, label) for path, label, _ in found(collection)} == {
        (f"{name}/1.png", name) for name in names
    }


# Given splits


@pytest.mark.parametrize("spell", [str.lower, str.title, str.upper])
@pytest.mark.parametrize("val", [name for name, split in SPLIT_NAMES.items() if split == "val"])
@pytest.mark.parametrize("train", [name for name, split in SPLIT_NAMES.items() if split == "train"])
def test_split_folders_give_splits(
    root: Path, train: str, val: str, spell: Callable[[str], str]
) -> None:
    folders = {spell(train): "train", spell(val): "val", spell("test"): "test"}
    make_files(root, *(f"{folder}/{label}/1.png" for folder in folders for label in ("cat", "dog")))
    assert sorted(found(find(root))) == sorted(
        (f"{folder}/{label}/1.png", label, split)
        for folder, split in folders.items()
        for label in ("cat", "dog")
    )


@pytest.mark.parametrize("folders", [("train",), ("train", "test"), ("train", "val")])
def test_some_splits_may_be_missing(root: Path, folders: Sequence[str]) -> None:
    make_files(root, *(f"{folder}/{label}/1.png" for folder in folders for label in ("cat", "dog")))
    assert {split for _, _, split in found(find(root))} == set(folders)


@pytest.mark.parametrize(
    "classes",
    [("test", "val"), ("train", "tram"), ("train", "training"), ("training", "bus", "tram")],
    ids="-".join,
)
def test_classes_may_be_called_like_splits(root: Path, classes: Sequence[str]) -> None:
    collection = find(make_files(root, *(f"{label}/1.png" for label in classes)))
    assert found(collection) == [(f"{label}/1.png", label, None) for label in sorted(classes)]


def test_a_class_of_train_may_be_missing_from_test(root: Path) -> None:
    make_files(root, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
    assert found(find(root))[0] == ("test/cat/1.png", "cat", "test")


# What is set apart


HIDDEN_FILES = [
    ".DS_Store",
    ".git/config",
    "__MACOSX/cat/1.png",
    "cat/.DS_Store",
    "cat/._1.png",
    "cat/Thumbs.db",
    "cat/desktop.ini",
    "cat/DESKTOP.INI",
    "@eaDir/cat/SYNOFILE_THUMB_M.jpg",
    "lost+found/1.png",
    "dog/.cache/2.png",
]


def test_hidden_files_are_set_apart(root: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png", *HIDDEN_FILES)
    collection = find(root)
    assert found(collection) == [("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]
    assert set_apart(collection) == dict.fromkeys(HIDDEN_FILES, HIDDEN)
    assert collection.num_to_read == 2


def test_names_that_only_look_hidden_are_not(root: Path) -> None:
    names = ["cat/1.hidden", "cat/Thumbs.db.png", "dog/a.b.c", "dog/no_suffix"]
    collection = find(make_files(root, *names))
    assert [path for path, _, _ in found(collection)] == names
    assert set_apart(collection) == {}


def test_hidden_folders_hide_neither_splits_nor_classes(root: Path) -> None:
    make_files(root, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", ".git/x", ".empty/")
    assert {split for _, _, split in found(find(root))} == {"train", "test"}


def test_files_outside_of_class_folders_are_unlisted(root: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png", "README.txt", "0.png")
    assert set_apart(find(root)) == {"README.txt": STRAY, "0.png": STRAY}
    make_files(root.parent / "splits", "train/a/1.png", "train/b/1.png", "train/1.png", "labels.csv")
    assert set_apart(find(root.parent / "splits")) == {"train/1.png": STRAY, "labels.csv": STRAY}


def test_links_inside_count(root: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png", "dog/more/2.png")
    (root / "cat/more").symlink_to("../dog/more")
    (root / "owl").symlink_to("dog")
    (root / "cat/3.png").symlink_to("1.png")
    collection = find(root)
    assert set_apart(collection) == {}
    assert [(path, label) for path, label, _ in found(collection)] == [
        ("cat/1.png", "cat"),
        ("cat/3.png", "cat"),
        ("cat/more/2.png", "cat"),
        ("dog/1.png", "dog"),
        ("dog/more/2.png", "dog"),
        ("owl/1.png", "owl"),
        ("owl/more/2.png", "owl"),
    ]


def test_links_out_are_named_wherever_they_are(root: Path, tmp_path: Path) -> None:
    make_files(tmp_path / "elsewhere", "2.png", "bird/3.png")
    make_files(root, "cat/1.png", "dog/1.png")
    (root / "bat").symlink_to(tmp_path / "nowhere")
    (root / "cat/out.png").symlink_to(tmp_path / "elsewhere/2.png")
    (root / "cat/more").symlink_to(tmp_path / "elsewhere/bird")
    collection = find(root)
    assert len(found(collection)) == 2
    assert set_apart(collection) == {
        "bat": ("missing", None, "a broken link"),
        "cat/more": ("outside", "cat", "a link to a folder outside of the folder"),
        "cat/out.png": ("outside", "cat", "a link out of the folder"),
    }


@pytest.mark.parametrize(
    ("link", "kind"), [("owl", "class"), ("test", "split"), ("train/owl", "class"), ("Val", "split")]
)
def test_a_linked_class_or_split_folder_is_named_as_such(
    root: Path, tmp_path: Path, link: str, kind: str
) -> None:
    make_files(tmp_path / "elsewhere", "cat/2.png", "dog/2.png")
    splits = link != "owl"
    make_files(root, *(f"{'train/' * splits}{label}/1.png" for label in ("cat", "dog")))
    (root / link).symlink_to(tmp_path / "elsewhere")
    said = refusal(root)
    assert said.startswith(f"data.path: the {kind} folder {link} is a link that leads out of ROOT, ")
    assert "copy the folder into ROOT" in said


def test_a_class_folder_whose_name_is_not_utf8_is_not_empty(root: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png")
    odd = os.fsencode(root) + b"/\xff"
    try:
        os.mkdir(odd)
        with open(odd + b"/1.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert set_apart(find(root)) == {"\\xff/1.png": ("unreadable", "\\xff", "its name is not UTF-8")}


SPLITS_CALLED = [
    ("train", "val", "test"),
    ("Training", "VALID", "Testing"),
    ("TRAIN", "Validation", "TEST"),
    ("training", "Dev", "test"),
]
"""Names of splits, for train, val and test."""


@pytest.mark.parametrize("names", SPLITS_CALLED, ids="-".join)
@pytest.mark.parametrize("kind", ["folder", "tar", "manifest", "idx", "saved", "hub"])
def test_every_input_accepts_the_same_names_of_splits(
    root: Path, tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    options: dict[str, Any] = {}
    path = root
    root.mkdir(exist_ok=True)
    if kind in ("folder", "tar"):
        make_files(root, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
        if kind == "tar":
            path = tmp_path / "images.tar"
            with tarfile.open(path, "w") as tar:
                tar.add(root, ".")
    elif kind == "manifest":
        make_files(root, *(f"{i}.png" for i in range(6)))
        rows = [f"{i}.png,{'ab'[i % 2]},{names[i // 2]}" for i in range(6)]
        (root / "list.csv").write_text("\n".join(["path,label,split", *rows]))
        options = {"manifest": "list.csv", "split_column": "split"}
    elif kind == "idx":
        for name in names:
            (root / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes([2, 4, 4]))
            (root / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes([2]))
    else:
        save_hugging_face(root, names, as_parquet=kind == "hub")
    splits = [entry.split for entry in find(path, **options).rows() if entry.label is not None]
    assert sorted(splits) == sorted(["train", "val", "test"] * 2)


def idx_bytes(shape: list[int]) -> bytes:
    """An idx file of the bytes 0, 1, 2, ..."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
    return header + bytes(range(math.prod(shape)))


def save_hugging_face(folder: Path, names: tuple[str, ...], as_parquet: bool) -> None:
    """Writes two images of each split as ``save_to_disk`` does, or as the hub's shards."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = pa.array(
        [{"bytes": b"x", "path": None}] * 2, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    table = pa.table({"image": images, "label": [0, 1]}).replace_schema_metadata(metadata)
    for name in names:
        if as_parquet:
            pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")
            continue
        (folder / name).mkdir()
        with pa.ipc.new_stream(folder / name / "data.arrow", table.schema) as writer:
            writer.write_table(table)
        state = {"_data_files": [{"filename": "data.arrow"}]}
        (folder / name / "state.json").write_text(json.dumps(state))
    if not as_parquet:
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))


# What is refused


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        find(path)
    return str(refused.value).replace(str(path), "ROOT")


NEEDED = "as in ROOT/cat/1.jpg, ROOT/dog/1.jpg"
EMPTY = "data.path: ROOT contains no labelled files; ROOT is empty, except for system files"
ONE_CLASS = f"data.path: ROOT has only one class (cat); at least two are needed, {NEEDED}"
EITHER = (
    "it must contain either one folder per class, or one folder for train and at most one each for "
    "val and test, with class folders inside"
)
REFUSED = {
    "nothing": ([], EMPTY),
    "hidden files alone": (["cat/.DS_Store", ".git/x"], "empty class folders: ROOT/cat"),
    "files without folders": (
        ["1.png", "2.png"],
        "ROOT contains 2 files and no class folders, for example 1.png; put each class into its own",
    ),
    "split folders without classes": (
        ["train/1.png", "test/1.png"],
        "ROOT contains test, train with files directly inside, for example test/1.png; one folder",
    ),
    "one class": (["cat/1.png", "cat/2.png"], ONE_CLASS),
    "one class in splits": (["train/cat/1.png", "test/cat/2.png"], ONE_CLASS),
    "one class beside stray files": (["cat/1.png", "2.png"], ONE_CLASS),
    "empty class folders": (
        ["cat/1.png", "dog/1.png", "owl/", "bat/"],
        "data.path: empty class folders: ROOT/bat, ROOT/owl; fill or remove them",
    ),
    "class folder with hidden files alone": (
        ["cat/1.png", "dog/1.png", "owl/.DS_Store"],
        "empty class folders: ROOT/owl; fill or remove them",
    ),
    "empty class folder in a split": (
        ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/"],
        "empty class folders: ROOT/test/dog; fill or remove them",
    ),
    "splits beside a class": (
        ["train/a/1", "train/b/1", "test/a/1", "extra/a/1"],
        f"data.path: ROOT contains extra, test, train; {EITHER}",
    ),
    "splits beside an empty folder": (
        ["train/a/1", "train/b/1", "test/a/1", "extra/"],
        f"ROOT contains extra, test, train; {EITHER}",
    ),
    "two folders of one split": (
        ["train/a/1", "train/b/1", "val/a/1", "valid/b/1"],
        f"ROOT contains train, val, valid; {EITHER}",
    ),
}


@pytest.mark.parametrize(("paths", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(root: Path, paths: list[str], message: str) -> None:
    assert message in refusal(make_files(root, *paths))


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: None])
def test_what_is_no_collection_is_refused(root: Path, make: Callable[[Path], None]) -> None:
    make(root)
    if not root.exists():
        assert refusal(root) == "data.path: ROOT does not exist"
    else:
        assert refusal(root).startswith("ROOT is not a tar archive" if root.is_file() else EMPTY)


WRAPPED = {
    "a folder": (["dataset/cat/1", "dataset/dog/1"], "contains one folder, dataset", "ROOT/dataset"),
    "two folders": (["a/b/cat/1", "a/b/dog/1"], "ROOT/a contains one folder, b", "ROOT/a/b"),
    "beside files": (["d/cat/1", "d/dog/1", "README", "x.csv"], "contains one folder, d", "ROOT/d"),
    "beside what systems leave": (
        ["d/cat/1", "d/dog/1", "__MACOSX/cat/1", ".git/x"],
        "ROOT contains one folder, d, which contains cat, dog",
        "ROOT/d",
    ),
    "splits": (
        ["d/train/cat/1", "d/train/dog/1", "d/test/cat/1"],
        "ROOT contains one folder, d, which contains test, train",
        "ROOT/d",
    ),
}


@pytest.mark.parametrize(("paths", "held", "works"), WRAPPED.values(), ids=WRAPPED)
def test_a_folder_around_the_class_folders_is_seen_through(
    root: Path, paths: list[str], held: str, works: str
) -> None:
    said = refusal(make_files(root, *paths))
    assert held in said
    assert said.endswith(f"; set data.path: {works}")
    assert {label for _, label, _ in found(find(Path(works.replace("ROOT", str(root)))))} == {
        "cat",
        "dog",
    }


def test_a_tar_of_two_folders_around_the_classes_is_explained(root: Path) -> None:
    make_files(root, "a/b/cat/1", "a/b/dog/1")
    tarred = root.with_suffix(".tar")
    with tarfile.open(tarred, "w") as tar:
        tar.add(root / "a", "a")
    said = refusal(tarred)
    assert (
        "ROOT contains one folder, b, which contains cat, dog; pack that folder itself, or set" in said
    )
    assert {label for _, label, _ in found(find(tarred, class_name="leaf"))} == {"cat", "dog"}


def test_classes_one_folder_deeper_in_given_splits_are_explained(root: Path) -> None:
    make_files(root, *(f"{s}/images/{c}/1" for s in ("train", "test") for c in ("cat", "dog")))
    assert refusal(root).endswith("; set data.class_name: leaf")
    assert {label for _, label, _ in found(find(root, class_name="leaf"))} == {"cat", "dog"}


def test_folders_of_splits_inside_of_class_folders_are_refused_and_others_are_not(root: Path) -> None:
    make_files(root, *(f"{c}/{s}/1" for c in ("cat", "dog") for s in ("Train", "test")))
    said = refusal(root)
    assert said.startswith("data.path: the folders Train, test are inside the class folders of ROOT")
    assert len(found(find(root, class_name="path"))) == 4
    make_files(root, "dog/1.png")
    assert {label for _, label, _ in found(find(root))} == {"cat", "dog"}


def test_archives_and_tables_beside_no_class_folder_are_named(root: Path) -> None:
    make_files(root, "dataset.zip")
    assert refusal(root).endswith("ROOT contains dataset.zip and no class folders; unpack the archives")
    make_files(root, "1.jpg", "labels.csv")
    assert "labels.csv lists the class of each file, set data.manifest: labels.csv" in refusal(root)


def test_a_path_that_is_no_collection_is_explained(root: Path, tmp_path: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png", "labels.csv", "1.JPG")
    said = {
        "image": f"{tmp_path / 'image'} does not exist; did you mean {root}?",
        "images/cta": f"{root / 'cta'} does not exist; did you mean {root / 'cat'}?",
        "image/cat": f"{tmp_path / 'image/cat'} does not exist"
        " (image does not exist; did you mean images?)",
        "images/labels.csv": f"{root / 'labels.csv'} is a table; set data.path: {root}, the folder of"
        " the images, and data.manifest: labels.csv",
        "images/1.JPG": f"{root / '1.JPG'} is a single file; set data.path to the folder of class"
        " folders",
        "other": f"{tmp_path / 'other'} does not exist",
    }
    for path, message in said.items():
        with pytest.raises(UserError) as refused:
            find_collection(source(tmp_path / path), tmp_path / ".darkroom")
        assert str(refused.value) == f"data.path: {message}"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    assert refusal(tmp_path / "pipe") == "data.path: ROOT is neither a folder nor a file"
    assert refusal(tmp_path / "link") == "data.path: ROOT is a broken link"
    with pytest.raises(UserError, match="~ is not expanded, so write /"):
        find_collection(source(Path("~/images")), tmp_path / ".darkroom")


# Names of classes


def test_blanks_around_the_names_of_folders_do_not_count(root: Path) -> None:
    make_files(root, " Train/cat /1.png", " Train/dog/1.png", "VAL /cat/1.png", "Dev x/")
    with pytest.raises(UserError, match="it must contain either one folder per class"):
        find(root)
    (root / "Dev x").rmdir()
    assert found(find(root)) == [
        (" Train/cat /1.png", "cat", "train"),
        (" Train/dog/1.png", "dog", "train"),
        ("VAL /cat/1.png", "cat", "val"),
    ]


@pytest.mark.parametrize("name", ["  ", "\u00a0", "\u200b", "\u3164"])
@pytest.mark.parametrize("splits", [False, True])
def test_a_class_folder_named_by_blanks_is_refused(root: Path, name: str, splits: bool) -> None:
    folder = "train/" if splits else ""
    make_files(root, f"{folder}cat/1.png", f"{folder}{name}/1.png", f"{folder}dog/1.png")
    assert "consists only of blanks or invisible characters; rename it" in refusal(root)


LOOK_ALIKES = {
    "case": ("cat", "Cat"),
    "capitals": ("cat", "CAT"),
    "sharp s": ("stra\u00dfe", "STRASSE"),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "full width": ("cat", "\uff43\uff41\uff54"),
    "ligature": ("fish", "\ufb01sh"),
    "blanks inside": ("polar bear", "polar  bear"),
    "no-break space": ("polar bear", "polar\u00a0bear"),
    "zero width": ("cat", "ca\u200bt"),
    "byte order mark": ("cat", "\ufeffcat"),
    "soft hyphen": ("cat", "ca\u00adt"),
    "Turkish I with a dot": ("istanbul", "\u0130stanbul"),
    "Turkish i without one": ("\u0131\u015f\u0131k", "I\u015eIK"),
    "variation selector": ("\u2764", "\u2764\ufe0f"),
}


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_classes_that_look_alike_are_named_with_both_ways_out(root: Path, one: str, other: str) -> None:
    make_files(root, f"{one}/1.png", f"{one}/2.png", f"{other}/1.png", "dog/1.png")
    with pytest.raises(UserError) as refused:
        find(root)
    text = str(refused.value)
    assert "(2 files)" in text
    assert "(1 file)" in text
    assert "dog" not in text
    pasted = [yaml_map(line) for line in text.splitlines() if line.startswith("  merge_labels")]
    assert pasted == [{other: one}, {one: one, other: other}]
    assert {label for _, label, _ in found(find(root, merge_labels=pasted[0]))} == {one, "dog"}
    kept = {label for _, label, _ in found(find(root, merge_labels=pasted[1]))}
    assert kept == {one, other, "dog"}


def yaml_map(line: str) -> dict[str, str]:
    values: dict[str, dict[str, str]] = YAML(typ="safe").load(line)
    return values["merge_labels"]


def test_classes_that_do_not_look_alike_pass(root: Path) -> None:
    names = ["cat", "cats", "c at", "c-at", "c_at", "1", "01", "\u0441at", "\u00e9", "e", "I", "l"]
    collection = find(make_files(root, *(f"{name}/1.png" for name in names)))
    assert {label for _, label, _ in found(collection)} == set(names)


def test_the_lines_to_paste_go_with_what_is_merged_already(root: Path) -> None:
    make_files(root, *(f"{name}/{i}.png" for name in ("cat", "Cat", "kitten") for i in (1, 2)), "dog/1")
    with pytest.raises(UserError) as refused:
        find(root, merge_labels={"kitten": "Cat"})
    pasted = [yaml_map(line) for line in str(refused.value).splitlines() if "merge_labels" in line]
    assert pasted[0] == {"kitten": "Cat", "cat": "Cat"}
    assert {label for _, label, _ in found(find(root, merge_labels=pasted[0]))} == {"Cat", "dog"}
    assert {label for _, label, _ in found(find(root, merge_labels=pasted[1]))} == {"cat", "Cat", "dog"}


def test_a_look_alike_in_a_given_split_is_not_said_to_be_missing_in_train(root: Path) -> None:
    make_files(root, "train/cat/1.png", "train/dog/1.png", "test/Cat/1.png")
    assert "names differ only in case" in refusal(root)
    assert len(found(find(root, merge_labels={"Cat": "cat"}))) == 3


def test_labels_are_merged_on_purpose_and_mistakes_are_named(root: Path) -> None:
    make_files(root, "tabby/1.png", "siamese/1.png", "dog/1.png")
    merged = find(root, merge_labels={"tabby": "cat", "siamese": "cat"})
    assert {label for _, label, _ in found(merged)} == {"cat", "dog"}
    for mapping, message in {
        ("taby", "dog"): "no file has the label taby; did you mean tabby?; the labels are dog, siamese",
        ("tabby", "dgo"): "tabby is merged into dgo, which no file has as its label; did you mean dog?",
    }.items():
        with pytest.raises(UserError) as refused:
            find(root, merge_labels=dict([mapping]))
        assert f"data.merge_labels: {message}" in str(refused.value)
    with pytest.raises(UserError, match=r"has only one class \(dog\); at least two are needed, after"):
        find(root, merge_labels={"tabby": "dog", "siamese": "dog"})


def test_labels_of_a_manifest_and_sets_of_labels_are_merged(root: Path) -> None:
    make_files(root, "1.png", "2.png", "3.png")
    (root / "labels.csv").write_text(
        "path,label\n1.png,Cat|dog\n2.png,cat|Dog \n2.png,Cat|DOG\n3.png,Cat|cat|DOG\n"
    )
    several = {"manifest": "labels.csv", "label_separator": "|"}
    with pytest.raises(UserError, match="DOG") as refused:
        find(root, **several)
    assert "Cat (2 files), cat (1 file)" in str(refused.value)
    merge = {"Cat": "cat", "Dog": "dog", "DOG": "dog"}
    rows = {path: label for path, label, _ in found(find(root, **several, merge_labels=merge))}
    assert rows == {"1.png": "cat|dog", "2.png": "cat|dog", "3.png": "cat|dog"}
    (root / "labels.csv").write_text("path,label\n1.png,Cat\n2.png, cat\n1.png,cat\n3.png,dog\n")
    rows = {p: x for p, x, _ in found(find(root, manifest="labels.csv", merge_labels={"Cat": "cat"}))}
    assert rows == {"1.png": "cat", "2.png": "cat", "3.png": "dog"}


# Manifests whose files are not found

NOT_FOUND = {
    "an image folder": (["images/1.png", "images/2.png"], ["1.png", "2.png"], "images", {}),
    "without suffix": (["images/1.png", "images/2.png"], ["1", "2"], "add the suffix .png", None),
    "another suffix": (
        ["1.png", "2.png"],
        ["1.jpg", "2.jpg"],
        "write the suffix .png instead of .jpg",
        None,
    ),
    "from the project": (
        ["a/1.png", "a/2.png"],
        ["ROOT/a/1.png", "ROOT/a/2.png"],
        "remove 'ROOT/'",
        None,
    ),
    "absolute": (["a/1.png", "a/2.png"], ["/x/y/a/1.png", "/x/y/a/2.png"], "remove '/x/y/'", None),
    "from Windows": (["a/1.png", "a/2.png"], ["C:\\y\\a\\1.png", "C:\\y\\a\\2.png"], "'C:/y/'", None),
    "another case": (
        ["a/x1.PNG", "a/x2.PNG"],
        ["A/X1.png", "A/X2.png"],
        "write the names exactly as the files",
        None,
    ),
    "percent signs": (
        ["a b.png", "c d.png"],
        ["a%20b.png", "c%20d.png"],
        "write the names exactly as the",
        None,
    ),
    "blanks around": (["1.png", "2.png"], [" 1.png ", " 2.png "], "write the names exactly as", None),
    "nothing like it": (
        ["a/1.png", "a/2.png"],
        ["b/8.png", "b/9.png"],
        "which contains a/1.png, for",
        None,
    ),
}


@pytest.mark.parametrize(("there", "listing", "remedy", "works"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_where_no_listed_file_is_there_the_message_says_what_would_match(
    root: Path, there: list[str], listing: list[str], remedy: str, works: object
) -> None:
    make_files(root, *there)
    lines = [
        f"{path.replace('ROOT', str(root))},{label}\n" for path, label in zip(listing, "ab", strict=True)
    ]
    (root / "labels.csv").write_text("path,label\n" + "".join(lines))
    with pytest.raises(UserError) as refused:
        find(root, manifest="labels.csv")
    said = str(refused.value).replace(str(root), "ROOT")
    assert said.startswith(
        "data.manifest: labels.csv labels no file in ROOT: 2 of 2 listed paths are missing"
    )
    assert f"the first: {listed(listing[:1])}" in said
    assert "class is needed" not in said
    assert remedy in said
    if works is not None:
        assert "set data.image_root: images" in said
        assert len(found(find(root, manifest="labels.csv", image_root="images"))) == 2


def test_listed_names_that_lie_in_several_folders_are_explained_by_one(root: Path) -> None:
    names = [f"{folder}/{index}.png" for folder in "abc" for index in range(3)]
    make_files(root, *(f"{name[0]}/{name[0]}{name[2:]}" for name in names))
    lines = [f"{name[0]}{name[2:-4]},{name[0]}\n" for name in names]
    (root / "labels.csv").write_text("path,label\n" + "".join(lines))
    with pytest.raises(UserError) as refused:
        find(root, manifest="labels.csv")
    assert (
        str(refused.value)
        .replace(str(root), "ROOT")
        .endswith(
            "9 of 9 listed paths are missing, the first: a0; 9 of 9 have the name of a file in one of 3"
            " folders, a, b, c; write paths relative to ROOT, for example a/a0.png for a0"
        )
    )


def test_the_root_of_the_collection_is_found_from_a_manifest_in_a_folder(root: Path) -> None:
    make_files(root, "a/1.png", "b/2.png")
    make_files(root, "tables/x").joinpath("tables/labels.csv").write_text(
        "path,label\na/1.png,a\nb/2.png,b\n"
    )
    with pytest.raises(UserError, match=r"set data.image_root: \. "):
        find(root, manifest="tables/labels.csv")
    assert len(found(find(root, manifest="tables/labels.csv", image_root="."))) == 2


def test_a_manifest_without_labels_is_not_told_to_make_folders(root: Path) -> None:
    make_files(root, "1.png")
    (root / "labels.csv").write_text("path,label\n1.png,\n")
    with pytest.raises(UserError, match=r"gives no file in .* a label; its column label is empty"):
        find(root, manifest="labels.csv")


def test_some_missing_files_are_counted_with_what_would_match(root: Path) -> None:
    make_files(root, "1.png", "2.png", "more/3.png")
    (root / "labels.csv").write_text("path,label\n1.png,a\n2.png,b\n3.png,b\n4.png,a\n")
    said = find(root, manifest="labels.csv").missing.replace(str(root), "ROOT")
    assert said.startswith("2 of 4 listed paths are missing, the first: 3.png; 1 of 2 would be found in")
    assert "ROOT/more: set data.image_root: more" in said


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/1.png", "dog/1.png", ".hidden/"],
        ["cat/1.png", "dog/1.png", "cat/nothing/here/"],
        ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"],
        ["train/cat/1.png", "train/dog/1.png", "test/"],
    ],
    ids=["empty hidden folder", "empty folder in a class", "train's class not in test", "empty test"],
)
def test_what_only_looks_like_a_mistake_passes(root: Path, paths: list[str]) -> None:
    assert {label for _, label, _ in found(find(make_files(root, *paths)))} == {"cat", "dog"}


# What decides the table


class Shuffled:
    """``os.scandir`` with its entries in another order, as another disk would give them."""

    scandir = staticmethod(os.scandir)

    def __init__(self, path: str, seed: int) -> None:
        with self.scandir(path) as entries:
            by_name = sorted(entries, key=lambda entry: entry.name)
        random.Random(seed).shuffle(by_name)
        self._entries: Iterator[os.DirEntry[str]] = iter(by_name)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> "Shuffled":
        return self

    def __exit__(self, *error: object) -> None:
        pass


FOLDERS = st.lists(st.sampled_from(["a", "b", "Z", "10", "9", "ä", "a b", ".h", "train"]), max_size=3)
TREES = st.sets(
    st.builds(
        lambda folders, name: "/".join([*folders, name]),
        FOLDERS,
        st.sampled_from(["1.png", "10.png", "2.png", ".DS_Store", "é.png"]),
    ),
    max_size=12,
).map(lambda paths: sorted(paths | {"a/1.png", "bird/1.png", "a/n/2.png", "a-b/1.png"}))
"""Paths of files, with class folders for sure; ``a-b`` sorts between ``a`` and what is in it."""


def expected_rows(paths: Sequence[str]) -> list[tuple[str, str | None, str | None]]:
    """Path, label and outcome, by the rules of the README."""
    rows: list[tuple[str, str | None, str | None]] = []
    for path in sorted(paths, key=str.encode):
        *folders, name = path.split("/")
        if any(part.startswith(".") for part in (*folders, name)):
            rows.append((path, None, "hidden"))
        else:
            rows.append((path, folders[0], None) if folders else (path, None, "unlisted"))
    return rows


def has_empty_class(paths: Sequence[str]) -> bool:
    rows = expected_rows(paths)
    tops = {path.split("/")[0] for path in paths if "/" in path and not path.startswith(".")}
    return tops != {label for _, label, _ in rows if label}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(TREES, st.randoms(use_true_random=False))
def test_neither_the_order_on_disk_nor_the_place_matters(
    paths: list[str], shuffler: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        one, other = Path(folder, "one"), Path(folder, "quite/another place")
        make_files(one, *shuffler.sample(paths, len(paths)))
        make_files(other, *shuffler.sample(paths, len(paths)))
        if has_empty_class(paths):
            with pytest.raises(UserError, match="empty class folders"):
                find(one)
            return
        collection = find(one)
        assert [(e.path, e.label, e.outcome) for e in collection.rows()] == expected_rows(paths)
        seed = shuffler.randrange(1000)
        patch.setattr(os, "scandir", lambda path: Shuffled(path, seed))
        assert find(other).table.equals(collection.table)
        (other / "a/1.png").write_bytes(b"another size")
        assert not find(other).table.equals(collection.table)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(TREES, st.randoms(use_true_random=False))
def test_a_tar_of_the_folder_is_as_good_as_the_folder(paths: list[str], shuffler: random.Random) -> None:
    paths = [path for path in paths if not has_empty_class([path])]
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_files(Path(scratch, "images"), *paths)
        tarred = Path(scratch, "images.tar")
        with tarfile.open(tarred, "w") as tar:
            for path in shuffler.sample(paths, len(paths)):
                tar.add(folder / path, f"images/{path}")
        of_folder, of_tar = find(folder), find(tarred)
        same = of_folder.table.drop_columns("offset")
        assert of_tar.table.drop_columns("offset").equals(same)
        for entry in of_tar.rows():
            content = of_tar.files.read(entry.path, entry.offset, entry.size)
            assert content == (folder / entry.path).read_bytes()


@pytest.mark.parametrize("splits", [False, True])
def test_what_pack_writes_is_as_good_as_the_folder(root: Path, splits: bool) -> None:
    paths = ["cat/1.png", "cat/n/2.png", "dog/3.png", "ünï/4.png"]
    paths = [f"{split}/{path}" for split in ("Train", "test") for path in paths] if splits else paths
    make_files(root, *paths)
    pack(root, root.with_suffix(".tar"), lambda count: None, lambda count: None)
    table = find(root.with_suffix(".tar")).table
    assert table.drop_columns("offset").equals(find(root).table.drop_columns("offset"))
    assert set(table["split"].to_pylist()) == ({"train", "test"} if splits else {None})


def test_an_archive_is_refused_as_a_folder_is(root: Path) -> None:
    make_files(root, "cat/1.png", "cat/2.png")
    with tarfile.open(root.with_suffix(".tar"), "w") as tar:
        tar.add(root, ".")
    assert refusal(root.with_suffix(".tar")) == ONE_CLASS


def test_many_rows_are_sorted_across_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"{label}/{number}.png" for label in ("b", "a", "c") for number in range(20)]
    make_files(root, *paths, "README", "a/.DS_Store")
    whole = find(root)
    monkeypatch.setattr(entry_table, "BATCH", 7)
    collection = find(root)
    assert collection.table.equals(whole.table)
    assert max(len(batch) for batch in collection.table.to_batches()) == 7
    assert len(collection.table.to_batches()) == 9
    assert [e.path for e in collection.rows()] == sorted([*paths, "README", "a/.DS_Store"])
    assert list(collection.rows()) == list(whole.rows())
    assert collection.num_to_read == 60


def test_a_path_that_an_archive_holds_twice_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path / "x", "a/1", "b/1")
    for again, name in ((["b/1"], "twice.tar"), ([], "once.tar")):
        with tarfile.open(tmp_path / name, "w") as tar:
            for path in ("b/1", "a/1", *again):
                tar.add(tmp_path / "x" / path, path)
    assert refusal(tmp_path / "twice.tar") == (
        "data.path: ROOT contains b/1 twice; each file needs a unique path"
    )
    assert len(found(find(tmp_path / "once.tar"))) == 2


def test_a_table_outlives_the_next_one(root: Path) -> None:
    """It is mapped, and another run may write its own in the meantime."""
    make_files(root, *(f"{label}/{number}.png" for label in "abc" for number in range(200)))
    collection = find(root)
    before = list(collection.rows())
    for path in root.glob("a/*"):
        path.unlink()
    make_files(root, "a/1.png")
    assert len(list(find(root).rows())) == 401
    assert list(collection.rows()) == before


def test_a_manifest_labels_the_files(root: Path) -> None:
    make_files(root, "x/1.png", "x/2.png", "3.png")
    (root / "labels.csv").write_text(
        "file,kind,part,owner,cost\nx/2.png,b,test,p,2\nx/1.png,a,,,\n3.png,b,,,\n"
    )
    changes = {"manifest": "labels.csv", "path_column": "file", "label_column": "kind"}
    columns = {"split_column": "part", "group_column": "owner", "weight_column": "cost"}
    collection = find(root, **changes, **columns)
    rows = {e.path: (e.label, e.split, e.group, e.weight, e.outcome) for e in collection.rows()}
    assert list(rows) == ["3.png", "labels.csv", "x/1.png", "x/2.png"]
    assert rows["x/2.png"] == ("b", "test", "p", 2.0, None)
    assert rows["x/1.png"] == ("a", None, None, None, None)
    assert rows["labels.csv"][4] == "unlisted"
    (root / "labels.csv").write_text("file,kind\nx/2.png,a\nx/1.png,a\n")
    with pytest.raises(UserError, match=re.escape("has only one class (a); at least two are needed")):
        find(root, **changes)


def test_idx_files_label_themselves(root: Path) -> None:
    root.mkdir()
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    for name, array in (("images", images), ("labels", np.array([3, 1, 1, 3], np.uint8))):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (root / f"train-{name}-idx{array.ndim}-ubyte").write_bytes(header + array.tobytes())
    assert [label for _, label, _ in found(find(root))] == ["3", "1", "1", "3"]
