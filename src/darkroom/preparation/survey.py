"""Loads the manifest as arrays, for the report."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS, Outcome
from darkroom.collection.labels import LabelSets
from darkroom.preparation.candidates import codes

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_OF_FILES = ["path", "outcome", "reason", "split", "label"]
_OF_IMAGES = ["format", "mode", "width", "height", "animated", "brightness", "sharpness"]
_COLUMNS = [*_OF_FILES, *_OF_IMAGES, "pixel_sha256"]
_REPEATED = ["outcome", "split", "label"]


@dataclass(frozen=True)
class Survey:
    """The manifest as arrays. Candidates are its rows with a ``pixel_sha256``, in order."""

    files: pa.Table
    """Path, outcome, reason, split and label of all files."""
    outcomes: NDArray[np.int8]
    """Index in ``OUTCOMES`` of each file."""
    rows: NDArray[np.int64]
    """Rows of the candidates. The following arrays have one value per candidate."""
    labels: NDArray[np.int32]
    """Index in ``sets``."""
    splits: NDArray[np.int8]
    """Index in ``SPLITS``, -1 for excluded candidates."""
    widths: NDArray[np.int32]
    """Widths of the files, in pixels."""
    heights: NDArray[np.int32]
    """Heights of the files, in pixels."""
    brightness: NDArray[np.float64]
    """Mean grey of the prepared pixels, 0..255."""
    sharpness: NDArray[np.float64]
    """Variance of the Laplacian of the prepared pixels."""
    formats: list[tuple[str, str, int]]
    """``(format, mode, number of candidates)``, the most common first."""
    num_animated: int
    sets: LabelSets
    """The sets of labels."""

    @property
    def used(self) -> NDArray[np.int64]:
        """The candidates that are not excluded."""
        return np.flatnonzero(self.splits >= 0)

    def used_of_class(self, label: int) -> NDArray[np.int64]:
        """Return the candidates of a class that are not excluded."""
        has_label = self.sets.members[:, [label]].toarray().ravel() > 0
        return self.used[has_label[self.labels[self.used]]]

    @property
    def num_files(self) -> dict[Outcome, int]:
        """Number of files by outcome, without outcomes that do not occur."""
        counts = np.bincount(self.outcomes, minlength=len(OUTCOMES)).tolist()
        return {outcome: count for outcome, count in zip(OUTCOMES, counts, strict=True) if count}

    def describe(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return path, outcome, reason, split and label of the files in ``rows``."""
        return self.files.take(pa.array(rows)).to_pylist()

    def commonest_sizes(self, count: int) -> list[tuple[int, int, int]]:
        """Return ``(width, height, number of candidates)`` of up to ``count`` sizes."""
        packed = self.widths.astype(np.int64) << 32 | self.heights
        sizes, counts = np.unique(packed, return_counts=True)
        commonest = np.lexsort((sizes, -counts))[:count]
        pairs = zip(sizes[commonest].tolist(), counts[commonest].tolist(), strict=True)
        return [(size >> 32, size & 0xFFFFFFFF, num_images) for size, num_images in pairs]


def load_survey(manifest: Path, sets: LabelSets) -> Survey:
    """Read the result of ``write_manifest`` in batches.

    Args:
        sets: the sets that labels become indices of.
    """
    names, splits, outcomes = (pa.array(values) for values in (sets.names, SPLITS, OUTCOMES))
    files: list[pa.RecordBatch] = []
    arrays: list[dict[str, NDArray]] = []
    formats: Counter[tuple[str, str]] = Counter()
    num_rows = num_animated = 0
    for batch in pq.ParquetFile(manifest, read_dictionary=_REPEATED).iter_batches(columns=_COLUMNS):
        is_candidate = batch["pixel_sha256"].is_valid()
        images = batch.filter(is_candidate)
        files.append(batch.select(_OF_FILES))
        arrays.append(
            {
                "outcomes": codes(batch["outcome"], outcomes, np.int8),
                "rows": num_rows + np.flatnonzero(is_candidate),
                "labels": codes(images["label"], names, np.int32),
                "splits": codes(images["split"], splits, np.int8),
                "widths": images["width"].to_numpy(),
                "heights": images["height"].to_numpy(),
                "brightness": images["brightness"].to_numpy(),
                "sharpness": images["sharpness"].to_numpy(),
            }
        )
        formats.update(zip(images["format"].to_pylist(), images["mode"].to_pylist(), strict=True))
        num_animated += images["animated"].true_count
        num_rows += len(batch)
    return Survey(
        files=pa.Table.from_batches(files).unify_dictionaries(),
        formats=sorted(
            ((format, mode, count) for (format, mode), count in formats.items()),
            key=lambda row: (-row[2], row[0], row[1]),
        ),
        num_animated=num_animated,
        sets=sets,
        **{name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]},
    )
