"""Finding labelled images: class folders, given splits, what is set apart, what is refused."""

import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from darkroom.data.collection import Collection, scan_collection
from darkroom.errors import UserError


def make_files(root: Path, *paths: str) -> Path:
    """Makes a file for each path, and an empty folder for each that ends with a slash."""
    root.mkdir(exist_ok=True)
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    return root


def found(collection: Collection) -> list[tuple[str, str, str | None]]:
    return [(file.path, file.label, file.split) for file in collection.files]


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as refused:
        scan_collection(root)
    message = str(refused.value)
    assert message.startswith("data.path: ")
    return message.removeprefix("data.path: ").replace(str(root), "ROOT")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def test_class_folders_give_labels(root: Path) -> None:
    make_files(root, "dog/2.jpg", "cat/b.png", "cat/a.png", "dog/1.jpg")
    collection = scan_collection(root)
    assert found(collection) == [
        ("cat/a.png", "cat", None),
        ("cat/b.png", "cat", None),
        ("dog/1.jpg", "dog", None),
        ("dog/2.jpg", "dog", None),
    ]
    assert collection.root == root
    assert collection.class_names == ["cat", "dog"]
    assert {file.split for file in collection.files} - {None} == set()
    assert collection.hidden == []


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "test"), {"train", "test"}),
        (("training", "validation"), {"train", "val"}),
        (("train", "valid", "test"), {"train", "val", "test"}),
        (("train", "val", "test"), {"train", "val", "test"}),
        (("train",), {"train"}),
    ],
)
def test_split_folders_give_splits(root: Path, folders: tuple[str, ...], splits: set[str]) -> None:
    make_files(root, *(f"{folder}/{label}/1.png" for folder in folders for label in ("cat", "dog")))
    collection = scan_collection(root)
    assert {file.split for file in collection.files} - {None} == splits
    assert collection.class_names == ["cat", "dog"]
    assert {file.path.split("/")[0][:3]: file.split for file in collection.files} == {
        folder[:3]: {"tra": "train", "val": "val", "tes": "test"}[folder[:3]] for folder in folders
    }


def test_without_a_train_folder_their_names_are_classes(root: Path) -> None:
    make_files(root, "test/1.png", "val/1.png")
    assert found(scan_collection(root)) == [("test/1.png", "test", None), ("val/1.png", "val", None)]


def test_files_in_nested_folders_belong_to_the_class_on_top(root: Path) -> None:
    make_files(root, "cat/1.png", "cat/kittens/2.png", "cat/kittens/black/3.png", "dog/4.png")
    assert found(scan_collection(root)) == [
        ("cat/1.png", "cat", None),
        ("cat/kittens/2.png", "cat", None),
        ("cat/kittens/black/3.png", "cat", None),
        ("dog/4.png", "dog", None),
    ]


def test_a_linked_folder_counts_as_a_nested_one(root: Path, tmp_path: Path) -> None:
    make_files(tmp_path / "elsewhere", "2.png")
    make_files(root, "cat/1.png", "dog/1.png")
    (root / "cat/more").symlink_to(tmp_path / "elsewhere")
    assert ("cat/more/2.png", "cat", None) in found(scan_collection(root))


def test_a_linked_class_folder_and_a_linked_file_count(root: Path, tmp_path: Path) -> None:
    make_files(tmp_path / "elsewhere", "2.png")
    make_files(root, "cat/1.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/3.png").symlink_to(tmp_path / "elsewhere/2.png")
    assert [file.path for file in scan_collection(root).files] == ["cat/1.png", "cat/3.png", "dog/2.png"]


HIDDEN = [
    ".DS_Store",
    ".git/config",
    "cat/.DS_Store",
    "cat/._1.png",
    "cat/Thumbs.db",
    "dog/.cache/2.png",
]


def test_hidden_files_are_set_apart(root: Path) -> None:
    make_files(root, "cat/1.png", "dog/1.png", *HIDDEN)
    collection = scan_collection(root)
    assert [file.path for file in collection.files] == ["cat/1.png", "dog/1.png"]
    assert [file.path for file in collection.hidden] == HIDDEN
    assert collection.class_names == ["cat", "dog"]


def test_names_that_only_look_hidden_are_not(root: Path) -> None:
    names = ["cat/1.hidden", "cat/Thumbs.db.png", "dog/a.b.c", "dog/no_suffix"]
    collection = scan_collection(make_files(root, *names))
    assert [file.path for file in collection.files] == names
    assert collection.hidden == []


def test_a_hidden_folder_does_not_hide_given_splits(root: Path) -> None:
    make_files(root, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", ".git/x")
    assert {file.split for file in scan_collection(root).files} == {"train", "test"}


REFUSED = {
    "stray file": (
        ["cat/1.png", "dog/1.png", "README.txt", "labels.csv"],
        "ROOT must hold one folder a class; these files lie outside of them: README.txt, labels.csv",
    ),
    "stray file in a split": (
        ["train/cat/1.png", "train/dog/1.png", "train/1.png"],
        "ROOT must hold one folder a class; these files lie outside of them: train/1.png",
    ),
    "images in split folders without classes": (
        ["train/1.png", "test/1.png"],
        "ROOT must hold one folder a class; these files lie outside of them: test/1.png, train/1.png",
    ),
    "nothing": (
        [],
        "ROOT holds 0 class folders with images; at least two are needed, as in ROOT/cat/1.jpg, "
        "ROOT/dog/1.jpg",
    ),
    "one class": (
        ["cat/1.png", "cat/2.png"],
        "ROOT holds 1 class folders with images; at least two are needed, as in ROOT/cat/1.jpg, "
        "ROOT/dog/1.jpg",
    ),
    "one class beside an empty one": (
        ["cat/1.png", "dog/"],
        "ROOT holds 1 class folders with images; at least two are needed, as in ROOT/cat/1.jpg, "
        "ROOT/dog/1.jpg",
    ),
    "empty class folders": (
        ["cat/1.png", "dog/1.png", "owl/", "bat/"],
        "empty class folders: ROOT/bat, ROOT/owl; fill or remove them",
    ),
    "class folder with hidden files only": (
        ["cat/1.png", "dog/1.png", "owl/.DS_Store"],
        "empty class folders: ROOT/owl; fill or remove them",
    ),
    "empty class folder in a split": (
        ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/"],
        "empty class folders: ROOT/test/dog; fill or remove them",
    ),
    "classes of test that train lacks": (
        ["train/cat/1.png", "train/dog/1.png", "test/owl/1.png", "test/bat/1.png"],
        "the test folder of ROOT has classes that train lacks: bat, owl",
    ),
    "class of val that train lacks": (
        ["train/cat/1.png", "train/dog/1.png", "val/owl/1.png", "test/cat/1.png"],
        "the val folder of ROOT has classes that train lacks: owl",
    ),
}


@pytest.mark.parametrize(("paths", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(root: Path, paths: list[str], message: str) -> None:
    assert refusal(make_files(root, *paths)) == message


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/1.png", "dog/1.png", ".hidden/"],
        ["cat/1.png", "dog/1.png", "cat/nothing/here/"],
        ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"],
    ],
    ids=["empty hidden folder", "empty folder in a class", "class of train that test lacks"],
)
def test_what_only_looks_like_a_mistake_passes(root: Path, paths: list[str]) -> None:
    assert scan_collection(make_files(root, *paths)).class_names == ["cat", "dog"]


@pytest.mark.parametrize("make", [Path.touch, lambda path: None], ids=["file", "nothing"])
def test_no_folder_is_refused(root: Path, make: Callable[[Path], None]) -> None:
    make(root)
    assert refusal(root) == "ROOT is not a folder"


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


def walked(root: Path) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names]


def test_the_order_on_disk_is_irrelevant(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = ["a", "a/n", "a/n/m", "b", "c/n"]
    names = [f"{folder}/{index}.png" for folder in folders for index in range(5)]
    make_files(root, *names, *(f"a/.{i}" for i in range(5)))
    expected = scan_collection(root)
    assert [file.path for file in expected.files] == sorted(names)
    orders = set()
    for seed in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", lambda path, seed=seed: Shuffled(path, seed))
            orders.add(tuple(walked(root)))
            assert scan_collection(root) == expected
    assert len(orders) == 5  # so the disk did look different each time


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            ["train/a", "train/b", "test/a", "test/b", "extra/a"],
            "holds extra, test, train; it must hold either",
        ),
        (["train/a", "train/b", "val/a", "valid/b"], "holds train, val, valid; it must hold either"),
        (["train/a", "train/b", "test"], "empty class folders: {root}/test"),
    ],
)
def test_a_doubtful_split_is_refused(tmp_path: Path, folders: list[str], said: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        if "/" in folder:
            (tmp_path / folder / "1.png").write_bytes(b"1")
    with pytest.raises(UserError, match=re.escape(said.format(root=tmp_path))):
        scan_collection(tmp_path)


def test_split_folders_may_be_written_large_and_classes_may_be_called_train(tmp_path: Path) -> None:
    for path in ("large/Train/a", "large/Train/b", "large/TEST/a", "rail/train", "rail/tram"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "1.png").write_bytes(b"1")
    large, rail = scan_collection(tmp_path / "large"), scan_collection(tmp_path / "rail")
    assert {(file.path, file.split) for file in large.files} == {
        ("Train/a/1.png", "train"),
        ("Train/b/1.png", "train"),
        ("TEST/a/1.png", "test"),
    }
    assert {(file.label, file.split) for file in rail.files} == {("train", None), ("tram", None)}


def test_a_link_back_into_itself_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"1")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads back into itself"):
        scan_collection(tmp_path)


def test_files_beside_split_folders_are_stray_or_hidden(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "test/a"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "1.png").write_bytes(b"1")
    (tmp_path / ".DS_Store").write_bytes(b"1")
    assert [file.path for file in scan_collection(tmp_path).hidden] == [".DS_Store"]
    (tmp_path / "2.png").write_bytes(b"1")
    with pytest.raises(UserError, match=r"lie outside of them: 2\.png"):
        scan_collection(tmp_path)
