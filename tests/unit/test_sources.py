"""Public sets: digits against scikit-learn, MNIST from a server of our own, and the table of sets."""

import gzip
import hashlib
import inspect
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits
from torchvision import datasets

from darkroom.collection.sources import TABLES, TORCHVISION_SETS, fetch_set
from darkroom.config.fetch import NamedSet
from darkroom.errors import UserError

RANDOM = np.random.default_rng(0)
PARTS = {
    "train": (RANDOM.integers(0, 256, (30, 28, 28), dtype=np.uint8), np.arange(30) % 10),
    "t10k": (RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20) % 10),
}
"""MNIST's names of its parts -> uint8 images and their labels."""


class Counted:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.expected: list[int] = []
        self.done = 0

    def expect(self, num_images: int) -> None:
        self.expected.append(num_images)

    def advance(self, num_images: int) -> None:
        self.done += num_images


def files_below(root: Path) -> list[Path]:
    return [path.relative_to(root) for path in root.rglob("*") if path.is_file()]


def idx(values: NDArray[np.uint8]) -> bytes:
    """The IDX format of http://yann.lecun.com/exdb/mnist, gzipped."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a real server serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["MNIST", "FashionMNIST"])
def name(
    request: pytest.FixtureRequest, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A set of torchvision's that has PARTS and lies on the server."""
    folder, address = served
    resources = []
    for part, (images, labels) in PARTS.items():
        for kind, values in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(idx(values))
            resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    dataset = getattr(datasets, request.param)
    monkeypatch.setattr(dataset, "mirrors", [address])
    monkeypatch.setattr(dataset, "resources", resources)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return str(request.param)


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    progress = Counted()
    assert fetch_set("digits", tmp_path / "digits", progress) == 1797
    assert (progress.expected, progress.done) == ([1797], 1797)
    paths = sorted(files_below(tmp_path / "digits"), key=lambda path: path.name)
    assert {len(path.parts) for path in paths} == {2}
    reference = load_digits()
    assert [int(path.parts[0]) for path in paths] == reference.target.tolist()
    pixels = np.stack([read(tmp_path / "digits" / path) for path in paths])
    assert np.array_equal(np.round(pixels / 255 * 16), reference.images)  # 17 levels, all kept
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(np.unique(pixels)) == 17


def test_digits_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        fetch_set("digits", tmp_path / folder, Counted())
    for path in (tmp_path / "a").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


FOLDER_OF = {
    "MNIST": {0: "0 - zero", 9: "9 - nine"},
    "FashionMNIST": {0: "T-shirt_top", 9: "Ankle boot"},
}


def test_a_set_of_torchvisions_is_fetched_as_train_and_test_folders(name: str, tmp_path: Path) -> None:
    progress = Counted()
    assert fetch_set(name, tmp_path / "data" / name, progress) == 50
    assert (progress.expected, progress.done) == ([30, 20], 50)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]  # no downloads left
    root = tmp_path / "data" / name
    paths = files_below(root)
    assert len(paths) == 50
    assert len({path.parts[1] for path in paths}) == 10
    for split, part in (("train", "train"), ("test", "t10k")):
        of_split = sorted((p for p in paths if p.parts[0] == split), key=lambda path: path.name)
        images, labels = PARTS[part]
        for label, folder in FOLDER_OF[name].items():
            assert {of_split[index].parts[1] for index in np.flatnonzero(labels == label)} == {folder}
        for path, pixels in zip(of_split, images, strict=True):
            assert np.array_equal(read(root / path), pixels)


ADVICE = (
    "Downloading needs a network, once. Without one, put the images into data/{name}/train/CLASS/ and "
    "data/{name}/test/CLASS/, and set data.fetch: [] and data.path: data/{name}"
)


def refusal(name: str, folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        fetch_set(name, folder, Counted())
    message = str(refused.value)
    assert message.startswith(f"data.fetch: {name} could not be downloaded (")
    assert message.endswith(f"). {ADVICE.format(name=name)}")
    assert not folder.exists()
    return message


def test_without_a_server_there_is_advice(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:  # bound but not listening, so it refuses connections
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [address])
        refusal(name, tmp_path / "data" / name)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [lambda file: file[:-1], lambda file: b"moved", lambda file: b""],
    ids=["cut", "replaced", "empty"],
)
def test_a_damaged_download_is_refused(
    name: str, served: tuple[Path, str], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = served[0] / "train-labels-idx1-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    refusal(name, tmp_path / "data" / name)


def test_a_file_that_the_server_lacks_is_refused(
    name: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    (served[0] / "t10k-images-idx3-ubyte.gz").unlink()
    refusal(name, tmp_path / "data" / name)


def test_a_table_of_scikit_learn_is_a_csv_with_a_column_of_labels(tmp_path: Path) -> None:
    assert fetch_set("breast_cancer", tmp_path / "set", Counted()) == 569
    frame, table = pd.read_csv(tmp_path / "set/rows.csv"), load_breast_cancer()
    np.testing.assert_array_equal(frame.drop(columns="label"), table.data)
    assert frame["label"].tolist() == table.target_names[table.target].tolist()


def test_the_names_allowed_in_params_are_the_sets_there_are() -> None:
    assert sorted({*TORCHVISION_SETS, *TABLES, "digits"}) == sorted(get_args(NamedSet))
    assert len(get_args(NamedSet)) == len(set(get_args(NamedSet)))


def accepted_names(dataset: type) -> set[str]:
    """The arguments of a constructor, and of its parents' as long as it passes ``**kwargs`` on."""
    names: set[str] = set()
    for parent in dataset.__mro__:
        given = inspect.signature(parent.__init__).parameters.values()
        names |= {p.name for p in given if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in given):
            break
    return names


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_torchvision_has_the_set_and_knows_its_arguments(name: str) -> None:
    dataset = getattr(datasets, name)
    assert set(TORCHVISION_SETS[name]) in ({""}, {"train", "test"}, {"train", "val", "test"})
    for options in TORCHVISION_SETS[name].values():
        inspect.signature(dataset).bind("root", download=True, **options)
        assert {"download", *options} <= accepted_names(dataset)
    assert "no_such_argument" not in accepted_names(dataset)


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_no_two_splits_of_a_set_are_the_same(name: str) -> None:
    options = [str(sorted(options.items())) for options in TORCHVISION_SETS[name].values()]
    assert len(set(options)) == len(options)
