"""Reads images and labels from idx files, the format of MNIST: a pair of files per split.

The format: two zero bytes, a byte for the type (8: uint8), a byte for the number of dimensions, each
dimension as big-endian uint32, then the values (http://yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from darkroom.collection.entries import SPLIT_NAMES, Entry, Split
from darkroom.collection.folder import FolderFiles, other_files, read_part
from darkroom.collection.system_files import is_hidden
from darkroom.errors import UserError, brief, listed

_NAME = re.compile(r"(.*)(images|labels)(.*)[-.]idx([134])-ubyte(\.gz)?")
_DIMENSIONS = {"images": "34", "labels": "1"}

_SPLIT_WORDS: dict[str, Split] = {**SPLIT_NAMES, "t10k": "test"}

_UINT8 = 8
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class _SplitPixels:
    """The pixels of one split in a file: uint8 ``(num_images, height, width, channels)``."""

    file: Path
    start: int
    """Offset of the first image."""
    num_images: int
    height: int
    width: int
    channels: int

    @property
    def image_bytes(self) -> int:
        return self.height * self.width * self.channels


class IdxFiles:
    """The images in a folder's pairs of idx files, each as its own file.

    A pair is, for example, ``train-images-idx3-ubyte``, uint8 ``(N, height, width)``, and
    ``train-labels-idx1-ubyte``, uint8 ``(N,)``. ``.idx3-ubyte``, ``idx4`` of ``(N, height, width, 3)``
    and ``.gz`` are accepted too. If there are several pairs, their names give the splits (``t10k`` is
    test). Image 7 of this pair is ``train-images-idx3-ubyte/000007``, and its label is the number as
    text. Images are used as stored; those of EMNIST lie on their side.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Check the pairs, and unpack image files with the suffix ``.gz`` into ``scratch``.

        Args:
            scratch: must outlive this object and its copies in other processes.

        Raises:
            UserError: a file has no partner, is not an idx file of bytes, or contradicts its header or
                its partner; or the names do not give the splits.
        """
        self.name = str(folder)
        self._folder = folder
        pairs = _find_pairs(folder)
        self._used = {name for pair in pairs for name in pair}
        self._splits = _splits_by_name(folder, [images for images, _ in pairs])
        self._images: dict[str, _SplitPixels] = {}
        self._labels: dict[str, bytes] = {}
        for images_name, labels_name in pairs:
            images = _read_images(folder / images_name, scratch)
            self._images[_stem(images_name)] = images
            self._labels[_stem(images_name)] = _read_labels(folder / labels_name, images.num_images)

    def entries(self) -> Iterator[Entry]:
        """Yield the images with their labels, and the other files of the folder as ``unlisted``."""
        for stem, images in self._images.items():
            split, size = self._splits[stem], images.image_bytes
            for index, label in enumerate(self._labels[stem]):
                path, offset = f"{stem}/{index:06d}", images.start + index * size
                yield Entry(path, label=str(label), split=split, offset=offset, size=size)
        yield from other_files(self._folder, self._used, "not one of the pairs of idx files")

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return one image as a binary PGM or PPM file."""
        images = self._images[path.split("/")[0]]
        pixels = read_part(images.file, path, offset, size)
        magic = "P5" if images.channels == 1 else "P6"
        return f"{magic}\n{images.width} {images.height}\n255\n".encode() + pixels


def find_idx(folder: Path) -> bool:
    """Return whether ``folder`` directly contains an idx file of images or labels."""
    with os.scandir(folder) as items:
        return any(_kind(item.name) and not is_hidden(item.name) for item in items)


def _kind(name: str) -> str:
    """Return ``images`` or ``labels``, or an empty string for other files."""
    match = _NAME.fullmatch(name)
    return match[2] if match and match[4] in _DIMENSIONS[match[2]] else ""


def _stem(name: str) -> str:
    return name.removesuffix(".gz")


def _find_pairs(folder: Path) -> list[tuple[str, str]]:
    """Return the names of the image file and the label file of each pair."""
    found: dict[str, dict[tuple[str, str], str]] = {"images": {}, "labels": {}}
    names = (e.path for e in FolderFiles(folder).entries() if e.outcome is None and _kind(e.path))
    # prefer the unpacked file if there is a .gz beside it, as torchvision leaves them
    for name in sorted(names, key=lambda name: (name.endswith(".gz"), name)):
        match = _NAME.fullmatch(name)
        if match and "/" not in name:
            found[match[2]].setdefault((match[1], match[3]), name)
    for kind, other in (("images", "labels"), ("labels", "images")):
        for start, end in sorted(found[kind].keys() - found[other].keys()):
            raise UserError(
                f"{folder}: {found[kind][start, end]} has no {other}; expected beside it:"
                f" {start}{other}{end}-idx{_DIMENSIONS[other][0]}-ubyte, or the same name with .gz"
            )
    return [(found["images"][key], found["labels"][key]) for key in sorted(found["images"])]


def _splits_by_name(folder: Path, names: list[str]) -> dict[str, Split | None]:
    """Return the split of each image file; a single file has none."""
    if len(names) == 1:
        return {_stem(names[0]): None}
    splits: dict[str, Split | None] = {}
    for name in names:
        words = set(re.split(r"[-_. ]", name.lower())) & _SPLIT_WORDS.keys()
        said = {_SPLIT_WORDS[word] for word in words}
        if len(said) != 1 or said & set(splits.values()):
            raise UserError(
                f"{folder} contains {listed(names)}; if there are several image files, their names must"
                " contain train, val or test (or t10k), each at most once; move the others elsewhere"
            )
        splits[_stem(name)] = said.pop()
    return splits


def _read_images(path: Path, scratch: Path) -> _SplitPixels:
    with _open_idx(path) as (file, header_bytes, shape):
        channels = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4) or channels not in (1, 3) or 0 in shape[1:]:
            raise UserError(
                f"{path}: its shape is {shape}; images are (N, height, width) or (N, height, width, 3)"
            )
        num_images, height, width = shape[:3]
        num_bytes = math.prod(shape)
        if path.suffix == ".gz":
            unpacked = scratch / _stem(path.name)
            with unpacked.open("wb") as target:
                _expect_bytes(path, _copy(file, target, num_bytes), num_bytes)
            return _SplitPixels(unpacked, 0, num_images, height, width, channels)
        _expect_bytes(path, path.stat().st_size - header_bytes, num_bytes)
        return _SplitPixels(path, header_bytes, num_images, height, width, channels)


def _read_labels(path: Path, num_images: int) -> bytes:
    with _open_idx(path) as (file, _, shape):
        if shape != (num_images,):
            raise UserError(f"{path}: its shape is {shape}, but there are {num_images:,} images")
        labels = file.read(num_images + 1)
        _expect_bytes(path, len(labels), num_images)
        return labels


@contextmanager
def _open_idx(path: Path) -> Iterator[tuple[BinaryIO, int, tuple[int, ...]]]:
    """Open a file and read its header; yield the file, the header's length and the shape."""
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0":
                raise UserError(
                    f"{path}: not an idx file; it starts with {start!r} instead of two zero bytes, the"
                    " type and the number of dimensions"
                )
            if start[2] != _UINT8:
                raise UserError(f"{path}: its type is {start[2]}; only {_UINT8} (uint8) is read")
            header = file.read(4 * start[3])
            _expect_bytes(path, 4 + len(header), 4 + 4 * start[3])
            yield file, 4 + len(header), struct.unpack(f">{start[3]}I", header)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, or is damaged ({brief(error)})") from None


def _expect_bytes(path: Path, found: int, expected: int) -> None:
    if found != expected:
        more = " or more" if found > expected else ""
        raise UserError(f"{path}: {found:,} bytes{more}, expected {expected:,}; download the file again")


def _copy(source: BinaryIO, target: BinaryIO, num_bytes: int) -> int:
    """Copy at most ``num_bytes`` and one more, and return the number of bytes copied."""
    copied = 0
    while chunk := source.read(min(_CHUNK_BYTES, num_bytes + 1 - copied)):
        copied += target.write(chunk)
    return copied
