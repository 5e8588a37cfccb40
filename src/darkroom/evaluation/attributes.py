"""What is known about each test image besides its pixels: brightness, format, columns of a manifest."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

NUM_BINS = 4
"""Quantile bins of a number."""
MAX_OWN = 10
"""Values of a column of the manifest that are kept apart: the most frequent ones."""
OTHER = "other"
"""The value that stands for all less frequent ones."""

_NUMBERS = ("brightness", "sharpness")
_COLUMNS = ("path", "format", "width", "height", "file_bytes", "own_values", *_NUMBERS)

Attribute = Sequence[str | None]
"""The value of each image; None if it is unknown."""


def load_manifest(file: Path) -> pa.Table:
    """Return what is known about each image of the collection, in train, val or no split, too.

    Args:
        file: manifest.parquet, which ``prepare`` wrote.

    Returns:
        the columns that ``attributes_of`` and ``groups_of`` read.
    """
    return pq.read_table(file, columns=[*_COLUMNS, "split", "group", "duplicate_of"])


def attributes_of(manifest: pa.Table, paths: Sequence[str]) -> dict[str, Attribute]:
    """Return what is known about each test image, by the name of the attribute.

    Args:
        manifest: as ``load_manifest`` returns it.
        paths: the test images.
    """
    tested = manifest.filter(pc.field("split") == "test").select(_COLUMNS)
    rows = {row["path"]: row for row in tested.to_pylist()}
    images = [rows.get(path, dict.fromkeys(_COLUMNS)) for path in paths]
    attributes: dict[str, Attribute] = {
        **{name: _binned([image[name] for image in images]) for name in _NUMBERS},
        "megapixels": _binned(
            [
                None if image["width"] is None else image["width"] * image["height"] / 1e6
                for image in images
            ]
        ),
        "file_kilobytes": _binned(
            [None if image["file_bytes"] is None else image["file_bytes"] / 1e3 for image in images]
        ),
        "shape": [_shape(image["width"], image["height"]) for image in images],
        "format": [image["format"] for image in images],
        "folder": [PurePosixPath(path).parts[0] if "/" in path else None for path in paths],
    }
    for name, values in _own_columns([image["own_values"] for image in images]):
        while name in attributes:
            name += " (manifest)"
        attributes[name] = values
    return attributes


def _own_columns(packed: Sequence[str | None]) -> Iterator[tuple[str, Attribute]]:
    """Yield each further column of the manifest, in the order of their names."""
    images: list[Mapping[str, Any]] = [json.loads(values) if values else {} for values in packed]
    for name in sorted({name for image in images for name in image}):
        values = [image.get(name) for image in images]
        known = [value for value in values if value is not None]
        if len(set(known)) > MAX_OWN and not any(isinstance(value, str) for value in known):
            yield name, _binned(values, "{:.10g}".format)
        else:
            yield name, _most_frequent([None if value is None else f"{value}" for value in values])


def _most_frequent(values: Attribute) -> Attribute:
    """Return the values with the less frequent ones replaced by ``OTHER``."""
    counts = Counter(value for value in values if value is not None)
    kept = set(sorted(counts, key=lambda value: (-counts[value], value))[:MAX_OWN])
    return [value if value is None or value in kept else OTHER for value in values]


def _shape(width: int | None, height: int | None) -> str | None:
    if width is None or height is None:
        return None
    return "square" if width == height else "wide" if width > height else "tall"


def _shown(value: float) -> str:
    """Return three significant digits, without an exponent: ``23,000``."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _binned(values: Sequence[float | None], shown: Callable[[float], str] = _shown) -> list[str | None]:
    """Return the name of each value's quantile bin; equal values are in the same bin."""
    known: NDArray[np.float64] = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return [None] * len(values)
    shares = np.arange(1, NUM_BINS) / NUM_BINS
    edges = np.unique(np.quantile(known, shares, method="lower"))
    bins = np.searchsorted(edges, known)
    names = {
        index: " to ".join(shown(end(known[bins == index])) for end in (np.min, np.max))
        for index in np.unique(bins).tolist()
    }
    return [None if value is None else names[int(np.searchsorted(edges, value))] for value in values]
