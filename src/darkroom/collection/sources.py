"""Brings data sets: public ones as class folders and tables, and those of sources of the user."""

import csv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.error import URLError

from PIL import Image

from darkroom.errors import UserError, brief
from darkroom.own_names import is_own_file

Options = dict[str, Any]


class Progress(Protocol):
    """Receives the number of images to expect, and of images done."""

    def expect(self, num_images: int) -> None: ...
    def advance(self, num_images: int) -> None: ...


TABLES = ("breast_cancer", "iris", "wine")
"""Sets of scikit-learn with a row of numbers per sample."""

_TRAIN_AND_TEST: dict[str, Options] = {"train": {"train": True}, "test": {"train": False}}
_SPLITS_BY_NAME: dict[str, Options] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE_SPLITS: dict[str, Options] = {**_SPLITS_BY_NAME, "val": {"split": "val"}}

TORCHVISION_SETS: dict[str, dict[str, Options]] = {
    "CIFAR10": _TRAIN_AND_TEST,
    "CIFAR100": _TRAIN_AND_TEST,
    "Caltech101": {"": {}},
    "DTD": _THREE_SPLITS,
    "EMNIST": {split: {"split": "balanced", **options} for split, options in _TRAIN_AND_TEST.items()},
    "EuroSAT": {"": {}},
    "FGVCAircraft": _THREE_SPLITS,
    "FashionMNIST": _TRAIN_AND_TEST,
    "Flowers102": _THREE_SPLITS,
    "Food101": _SPLITS_BY_NAME,
    "GTSRB": _SPLITS_BY_NAME,
    "KMNIST": _TRAIN_AND_TEST,
    "MNIST": _TRAIN_AND_TEST,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "QMNIST": _TRAIN_AND_TEST,
    "RenderedSST2": _THREE_SPLITS,
    "STL10": _SPLITS_BY_NAME,
    "SVHN": _SPLITS_BY_NAME,
    "USPS": _TRAIN_AND_TEST,
}
"""Arguments of torchvision's class for each split folder, by class; no folder: no splits."""

_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""Suffix of each image format, by the first bytes of its files."""


def fetch_set(name: str, folder: Path, progress: Progress) -> int:
    """Write the set ``name`` as ``folder/CLASS/*.png``, or ``folder/{train,val,test}/CLASS/*.png``.

    Images of the Hugging Face hub keep their own format. A set of ``TABLES`` is ``folder/rows.csv``. A
    function of the user, ``file:PATH:NAME``, writes what it likes.

    Returns:
        The number of images or rows; of files, if a function of the user writes them.

    Raises:
        UserError: the set could not be downloaded, or the user's function fails.
    """
    if is_own_file(name):
        from darkroom.collection.own_source import write_own_set

        return write_own_set(name, folder, progress)
    if name == "digits":
        return _write(*_load_digits(), folder, progress)
    if name in TABLES:
        return _write_table(name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # beside the folder, because a large download could fill the system's temporary folder
    with TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as downloads:
        if name.startswith("hf--"):
            from darkroom.collection.huggingface import load_hub_set

            for part, (num_images, images) in load_hub_set(name, Path(downloads)).items():
                count += _write_encoded(num_images, images, folder / part, progress)
            return count
        for split, options in TORCHVISION_SETS[name].items():
            count += _write(*_download(name, options, downloads), folder / split, progress)
    return count


def _load_digits() -> tuple[int, Iterator[tuple[Image.Image, str]]]:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8 pixels (from the UCI ML repository).

    They are part of scikit-learn, so no network is needed. Their grey levels 0..16 are scaled to 0..255.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype("uint8")
    samples = zip(pixels, digits.target, strict=True)
    return len(pixels), ((Image.fromarray(image), str(label)) for image, label in samples)


def _write_table(name: str, folder: Path) -> int:
    """Write one of scikit-learn's tables (from the UCI ML repository) as CSV, with a column ``label``.

    They are part of scikit-learn, so no network is needed. Numbers are written in full.
    """
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    labels = table.target_names[table.target].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.feature_names, "label"])
        for values, label in zip(table.data.tolist(), labels, strict=True):
            writer.writerow([*values, label])
    return len(labels)


def _download(
    name: str, options: Options, downloads: str
) -> tuple[int, Iterator[tuple[Image.Image, str]]]:
    from torchvision import datasets

    try:
        dataset = getattr(datasets, name)(downloads, download=True, **options)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"data.fetch: {name} could not be downloaded ({brief(error)}). Downloading needs a network,"
            f" once. Without one, put the images into data/{name}/train/CLASS/ and"
            f" data/{name}/test/CLASS/, and set data.fetch: [] and data.path: data/{name}"
        ) from None
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    samples = (dataset[index] for index in range(len(dataset)))
    return len(dataset), ((i, str(names[label] if names else label)) for i, label in samples)


def _write(
    count: int,
    samples: Iterator[tuple[Image.Image, str]],
    folder: Path,
    progress: Progress,
) -> int:
    progress.expect(count)
    for index, (image, label) in enumerate(samples):
        path = folder / label.replace("/", "_") / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="PNG")
        progress.advance(1)
    return count


def _write_encoded(
    count: int, images: Iterator[tuple[bytes, str]], folder: Path, progress: Progress
) -> int:
    progress.expect(count)
    for index, (encoded, label) in enumerate(images):
        path = folder / label / f"{index:06d}{_suffix(encoded)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
        progress.advance(1)
    return count


def _suffix(encoded: bytes) -> str:
    """Return the usual suffix of an image format; ``prepare`` itself ignores suffixes."""
    for magic, suffix in _SUFFIXES.items():
        if encoded.startswith(magic):
            return suffix
    return ""
