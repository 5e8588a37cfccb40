"""idx files, against torchvision's reader; what does not fit together is refused."""

import gzip
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from darkroom.collection.entries import Entry
from darkroom.collection.idx import IdxFiles, find_idx
from darkroom.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (30, 5, 7), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 11


def idx(values: NDArray[np.uint8], type: int = 8) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, type, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, values: NDArray[np.uint8]) -> None:
    content = idx(values)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def open_idx(folder: Path) -> IdxFiles:
    return IdxFiles(folder, folder.parent / "scratch")


def pixels(files: IdxFiles, entry: Entry) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(files.read(entry.path, entry.offset, entry.size))) as image:
        assert image.format == "PPM"
        return np.asarray(image)


def images_of(files: IdxFiles) -> list[Entry]:
    return [entry for entry in files.entries() if entry.outcome is None]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_and_labels_are_those_that_torchvision_reads(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "scratch").mkdir()
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    parts = {"train": slice(0, 20), "t10k": slice(20, 30)}
    for part, chosen in parts.items():
        for end in {suffix, ""}:  # torchvision reads the unpacked ones
            write(folder, f"{part}-images-idx3-ubyte{end}", IMAGES[chosen])
            write(folder, f"{part}-labels-idx1-ubyte{end}", LABELS[chosen] % 10)
    references = {
        split: datasets.MNIST(str(tmp_path), train=split == "train") for split in ("train", "test")
    }
    if suffix:
        for path in folder.glob("*ubyte"):
            path.unlink()
    assert find_idx(folder)
    files = IdxFiles(folder, tmp_path / "scratch")
    entries = list(files.entries())
    files = pickle.loads(pickle.dumps(files))
    assert {entry.outcome for entry in entries} == {None}
    for split, reference in references.items():
        mine = [entry for entry in entries if entry.split == split]
        assert len(mine) == len(reference)
        for entry, (image, label) in zip(mine, reference, strict=True):
            assert entry.label == str(label)
            assert np.array_equal(pixels(files, entry), np.asarray(image))
    assert "train-images-idx3-ubyte/000007" in {entry.path for entry in entries}


def test_colour_images_are_read(folder: Path) -> None:
    colours = RANDOM.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    write(folder, "images.idx4-ubyte", colours)
    write(folder, "labels.idx1-ubyte.gz", LABELS[:4])
    files = open_idx(folder)
    for entry, image in zip(images_of(files), colours, strict=True):
        assert np.array_equal(pixels(files, entry), image)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-images-idx3-ubyte"], [None]),
        (["t10k-images.idx3-ubyte.gz"], [None]),
        (["train-images.idx3-ubyte", "t10k-images-idx3-ubyte.gz"], ["test", "train"]),
        (
            ["emnist-letters-train-images-idx3-ubyte", "emnist-letters-test-images-idx3-ubyte"],
            ["test", "train"],
        ),
        (["Train-images-idx3-ubyte", "validation-images-idx3-ubyte"], ["train", "val"]),
    ],
)
def test_names_say_the_splits(folder: Path, names: list[str], splits: list[str | None]) -> None:
    for name in names:
        write(folder, name, IMAGES)
        write(folder, name.replace("images", "labels").replace("idx3", "idx1"), LABELS)
    entries = images_of(open_idx(folder))
    assert sorted({entry.split for entry in entries}, key=str) == splits
    assert len(entries) == 30 * len(names)


def test_other_files_are_named(folder: Path) -> None:
    write(folder, "train-images-idx3-ubyte", IMAGES)
    write(folder, "train-labels-idx1-ubyte", LABELS)
    write(folder, "train-images-idx3-ubyte.gz", IMAGES)
    (folder / "more").mkdir()
    write(folder / "more", "t10k-images-idx3-ubyte", IMAGES)
    for name in ("README", ".DS_Store", "._train-images-idx3-ubyte"):
        (folder / name).write_bytes(b"1")
    others = {e.path: (e.outcome, e.reason) for e in open_idx(folder).entries() if e.outcome}
    assert others == {
        "README": ("unlisted", "not one of the pairs of idx files"),
        "train-images-idx3-ubyte.gz": ("unlisted", "not one of the pairs of idx files"),
        "more/t10k-images-idx3-ubyte": ("unlisted", "not one of the pairs of idx files"),
        ".DS_Store": ("hidden", ""),
        "._train-images-idx3-ubyte": ("hidden", ""),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train-images-idx3-ubyte", True),
        ("t10k-labels.idx1-ubyte.gz", True),
        ("images.idx4-ubyte", True),
        ("._train-images-idx3-ubyte", False),
        ("train-images-idx1-ubyte", False),
        ("qmnist-train-labels-idx2-int", False),
        ("images.png", False),
    ],
)
def test_idx_files_are_told_by_their_names(folder: Path, name: str, expected: bool) -> None:
    (folder / name).write_bytes(b"1")
    assert find_idx(folder) is expected


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        open_idx(folder)
    return str(refused.value)


def test_a_file_without_its_partner_is_refused(folder: Path, tmp_path: Path) -> None:
    write(folder, "train-images-idx3-ubyte", IMAGES)
    assert refusal(folder) == (
        f"{folder}: train-images-idx3-ubyte has no labels; expected beside it:"
        " train-labels-idx1-ubyte, or the same name with .gz"
    )
    write(folder, "train-labels-idx1-ubyte", LABELS)
    write(folder, "t10k-labels-idx1-ubyte.gz", LABELS)
    assert "t10k-labels-idx1-ubyte.gz has no images" in refusal(folder)
    write(tmp_path, "images", IMAGES)
    (folder / "t10k-images-idx3-ubyte").symlink_to(tmp_path / "images")  # leads out
    assert "t10k-labels-idx1-ubyte.gz has no images" in refusal(folder)


@pytest.mark.parametrize(
    "names",
    [
        ("emnist-letters-train-images-idx3-ubyte", "emnist-digits-train-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", "more-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", "train-test-images-idx3-ubyte"),
    ],
)
def test_names_that_do_not_say_the_splits_are_refused(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(folder, name, IMAGES)
        write(folder, name.replace("images-idx3", "labels-idx1"), LABELS)
    assert "their names must contain train, val or test" in refusal(folder)


DAMAGED = {
    "more labels": (
        idx(IMAGES),
        idx(np.arange(31, dtype=np.uint8)),
        "its shape is (31,), but there are 30",
    ),
    "labels in rows": (idx(IMAGES), idx(LABELS.reshape(5, 6)), "its shape is (5, 6), but there are 30"),
    "images cut": (idx(IMAGES)[:-1], idx(LABELS), "1,049 bytes, expected 1,050"),
    "images with more": (idx(IMAGES) + b"0", idx(LABELS), "expected 1,050"),
    "labels cut": (idx(IMAGES), idx(LABELS)[:-1], "29 bytes, expected 30"),
    "labels with more": (idx(IMAGES), idx(LABELS) + b"0000", "31 bytes or more, expected 30"),
    "header cut": (idx(IMAGES)[:10], idx(LABELS), "10 bytes, expected 16"),
    "empty": (b"", idx(LABELS), "not an idx file; it starts with b''"),
    "png": (b"\x89PNG", idx(LABELS), "not an idx file; it starts with b'\\x89PNG'"),
    "floats": (idx(IMAGES, 13), idx(LABELS), "its type is 13; only 8 (uint8) is read"),
    "two dimensions": (idx(IMAGES[0]), idx(LABELS), "its shape is (5, 7); images are (N, height"),
    "two channels": (idx(np.zeros((30, 5, 7, 2), np.uint8)), idx(LABELS), "its shape is (30, 5, 7, 2)"),
    "no width": (idx(np.zeros((30, 5, 0), np.uint8)), idx(LABELS), "its shape is (30, 5, 0)"),
    "a bomb": (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), idx(LABELS), "0 bytes, expected 79,"),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("images", "labels", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_does_not_fit_together_is_refused(
    folder: Path, images: bytes, labels: bytes, message: str, suffix: str
) -> None:
    for name, content in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    assert message in refusal(folder)


@pytest.mark.parametrize("damage", ["cut", "no gzip", "changed"])
def test_a_damaged_gz_is_refused(folder: Path, damage: str) -> None:
    write(folder, "train-labels-idx1-ubyte.gz", LABELS)
    content = bytearray(gzip.compress(idx(IMAGES)))
    if damage == "cut":
        content = content[:-20]
    elif damage == "no gzip":
        content = bytearray(idx(IMAGES))
    else:
        content[len(content) // 2] ^= 0xFF
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    assert "train-images-idx3-ubyte.gz: cannot be read, or is damaged (" in refusal(folder)


def test_a_file_that_shrinks_raises_an_os_error(folder: Path) -> None:
    write(folder, "images-idx3-ubyte", IMAGES)
    write(folder, "labels-idx1-ubyte", LABELS)
    files = open_idx(folder)
    last = images_of(files)[-1]
    (folder / "images-idx3-ubyte").write_bytes(idx(IMAGES)[:-1])
    with pytest.raises(OSError, match="ends within images-idx3-ubyte/000029"):
        files.read(last.path, last.offset, last.size)
