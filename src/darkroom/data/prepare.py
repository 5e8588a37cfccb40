"""From a collection of image files to shards, a manifest and dataset.json."""

import hashlib
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.data.collection import SPLITS, Collection, Split
from darkroom.data.decode import BadImage, Header, PixelLayout, Resize, decode, read_header
from darkroom.data.info import FORMAT_VERSION, DatasetInfo
from darkroom.data.parallel import ordered_map
from darkroom.data.shards import ShardWriter
from darkroom.errors import UserError

LARGEST_AUTO_SIZE = 224
SMALLEST_AUTO_SIZE = 32

Advance = Callable[[int], None]
"""Told how many more images are done."""

MANIFEST = pa.schema(
    [
        ("path", pa.string()),
        ("outcome", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
"""One row for every file found. ``outcome`` is ``used`` or ``hidden``; ``pixel_sha256`` is of the
prepared pixels; width and height are of the file, in pixels, as displayed."""


@dataclass(frozen=True)
class Decoded:
    """One decoded file: uint8 ``(height, width, channels)`` and hexadecimal SHA-256 digests."""

    pixels: NDArray[np.uint8]
    header: Header
    file_sha256: str
    pixel_sha256: str


def read_headers(collection: Collection, workers: int, advance: Advance) -> list[Header]:
    """Reads the headers of all files that have a readable one, in parallel and in order.

    Raises:
        UserError: no file has.
    """
    headers = []
    for header in _map(_read_headers, collection, workers):
        advance(1)
        if header is not None:
            headers.append(header)
    if not headers:
        raise UserError(f"data.path: none of the {len(collection.files)} files is a readable image")
    return headers


def choose_layout(
    headers: Sequence[Header],
    image_size: Literal["auto"] | int,
    channels: Literal["auto", 1, 3],
    resize: Resize,
) -> PixelLayout:
    """Settles what ``auto`` means for these images, as the parameters' descriptions say."""
    first = headers[0]
    if image_size != "auto":
        height = width = image_size
    elif (
        all((h.height, h.width) == (first.height, first.width) for h in headers)
        and max(first.height, first.width) <= LARGEST_AUTO_SIZE
    ):
        height, width = first.height, first.width
    else:
        median = statistics.median_low(min(h.height, h.width) for h in headers)
        height = width = min(max(median // 32 * 32, SMALLEST_AUTO_SIZE), LARGEST_AUTO_SIZE)
    if channels == "auto":
        channels = 1 if all(header.is_grey for header in headers) else 3
    return PixelLayout(height, width, channels, resize)


def write_splits(
    collection: Collection,
    splits: Sequence[Split],
    layout: PixelLayout,
    folder: Path,
    workers: int,
    advance: Advance,
) -> tuple[DatasetInfo, pa.Table]:
    """Decodes every file once, in parallel, and writes ``folder/{train,val,test}/*.arrow``.

    Args:
        splits: one for each of ``collection.files``.

    Returns:
        What dataset.json holds, and the manifest.

    Raises:
        UserError: names every file that cannot be decoded, and why.
    """
    class_names = collection.class_names
    label_of = {name: index for index, name in enumerate(class_names)}
    shape = (layout.height, layout.width, layout.channels)
    histogram = np.zeros((layout.channels, 256), np.int64)
    rows: list[dict[str, Any]] = [
        {"path": file.path, "outcome": "hidden", "label": file.label or None}
        for file in collection.hidden
    ]
    bad = {}
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)  # shards of a larger set would stay
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(ShardWriter(folder / split, shape, splits.count(split)))
            for split in SPLITS
        }
        decoded_files = _map(partial(_decode_files, layout=layout), collection, workers)
        for file, split, decoded in zip(collection.files, splits, decoded_files, strict=True):
            advance(1)
            if isinstance(decoded, str):
                bad[file.path] = decoded
                continue
            writers[split].add(decoded.pixels, label_of[file.label], file.path)
            if split == "train":
                for channel in range(layout.channels):
                    histogram[channel] += np.bincount(
                        decoded.pixels[..., channel].ravel(), minlength=256
                    )
            rows.append(
                {
                    "path": file.path,
                    "outcome": "used",
                    "split": split,
                    "label": file.label,
                    "file_sha256": decoded.file_sha256,
                    "pixel_sha256": decoded.pixel_sha256,
                    "format": decoded.header.format,
                    "mode": decoded.header.mode,
                    "width": decoded.header.width,
                    "height": decoded.header.height,
                }
            )
        if bad:
            raise UserError(
                f"data.path: {len(bad)} of {len(collection.files)} files in {collection.root} cannot"
                " be read; repair or remove them:\n"
                + "\n".join(f"  {collection.root}/{path}: {why}" for path, why in bad.items())
            )
    rows.sort(key=lambda row: row["path"])
    mean, std = mean_and_std(histogram)
    counts = Counter(zip(splits, (file.label for file in collection.files), strict=True))
    info = DatasetInfo(
        format_version=FORMAT_VERSION,
        class_names=class_names,
        counts={split: {name: counts[split, name] for name in class_names} for split in SPLITS},
        input_size=(layout.height, layout.width),
        channels=layout.channels,
        resize=layout.resize,
        mean=mean,
        std=std,
        digest=_digest(rows),
    )
    return info, pa.Table.from_pylist(rows, MANIFEST)


def write_manifest(manifest: pa.Table, path: Path) -> None:
    """Writes the manifest as Parquet, with the same bytes for the same rows."""
    pq.write_table(manifest, path, compression="zstd")


def mean_and_std(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation a channel, of pixel values scaled to 0..1.

    Args:
        histogram: int64 ``(channels, 256)``, how often each value occurs. Sums of integers are
            exact, so the result does not depend on the order of the images or on the machine.
    """
    values = range(256)
    means, stds = [], []
    for counts in histogram.tolist():
        total = sum(counts)
        first = sum(value * count for value, count in zip(values, counts, strict=True))
        second = sum(value * value * count for value, count in zip(values, counts, strict=True))
        variance = (second * total - first * first) / total**2
        means.append(first / total / 255)
        # a constant channel carries nothing; 1 keeps the division by std harmless
        stds.append(variance**0.5 / 255 if variance > 0 else 1.0)
    return means, stds


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    """Names the prepared data by content: the same pixels, labels and splits, the same digest."""
    used = sorted(
        f"{row['split']} {row['pixel_sha256']} {row['label']}"
        for row in rows
        if row["outcome"] == "used"
    )
    return hashlib.sha256("\n".join(used).encode()).hexdigest()


def _map(function: Callable, collection: Collection, workers: int) -> Iterator:
    paths = [str(collection.root / file.path) for file in collection.files]
    return ordered_map(function, paths, workers)


def _read_headers(paths: Sequence[str]) -> list[Header | None]:
    headers: list[Header | None] = []
    for path in paths:
        try:
            headers.append(read_header(Path(path).read_bytes()))
        except (BadImage, OSError):
            headers.append(None)
    return headers


def _decode_files(paths: Sequence[str], layout: PixelLayout) -> list[Decoded | str]:
    """Decodes files; in place of a bad one stands the reason."""
    results: list[Decoded | str] = []
    for path in paths:
        try:
            encoded = Path(path).read_bytes()
            header, pixels = decode(encoded, layout)
        except OSError as error:
            results.append(error.strerror or str(error))
        except BadImage as error:
            results.append(str(error))
        else:
            results.append(
                Decoded(
                    pixels,
                    header,
                    hashlib.sha256(encoded).hexdigest(),
                    hashlib.sha256(pixels.tobytes()).hexdigest(),
                )
            )
    return results
