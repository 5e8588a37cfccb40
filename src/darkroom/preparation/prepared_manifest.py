"""manifest.parquet, one row per file found, and problems.csv, the rows of the unused files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.collection.mask_classes import SEPARATOR
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.outcomes import PROBLEMS, describe_files, problems_of

MANIFEST = pa.schema(
    [
        ("path", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("weight", pa.float64()),
        ("duplicate_of", pa.string()),
        ("difference", pa.float64()),
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("animated", pa.bool_()),
        ("brightness", pa.float64()),
        ("sharpness", pa.float64()),
        ("file_bytes", pa.int64()),
        ("own_values", pa.string()),
    ]
)
"""One row per file, sorted by path. ``pixel_sha256``, ``brightness`` (mean grey, 0..255) and
``sharpness`` (variance of the Laplacian) describe the prepared pixels; width and height describe the
file, in pixels, as displayed. ``duplicate_of`` is an image with the same pixels (``difference`` 0) or
nearly the same: an earlier image, or the one used instead. Several labels are sorted and separated by
``data.label_separator``. ``own_values`` is a JSON object with the values of further columns of the
collection's manifest."""

MASK_MANIFEST = pa.schema(
    [*MANIFEST, ("mask", pa.string()), ("mask_sha256", pa.string()), ("num_void", pa.int32())]
)
"""For images with masks: ``label`` names the classes that the prepared mask shows, ``mask`` is its path
(if each class has a file, all paths, separated by ``|``), ``mask_sha256`` describes its prepared
pixels, and ``num_void`` counts those without class."""


def write_manifest(candidates: Candidates, decision: Decision, path: Path, problems: Path) -> None:
    """Write a Parquet file with one row per file, with the same bytes for the same rows.

    Args:
        problems: CSV file that lists the unused files.
    """
    copies = _nearest_original(decision)
    schema = MANIFEST if candidates.masks is None else MASK_MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with (
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
        pyarrow.csv.CSVWriter(problems, PROBLEMS) as problems_writer,
    ):
        for rows in describe_files(candidates.collection, candidates.images):
            used = pc.equal(rows["outcome"], "used").to_numpy()
            indices = np.full(len(rows), -1)
            indices[used] = np.arange(done, done + used.sum())
            done += int(used.sum())
            decided = _manifest_rows(rows, indices, candidates, decision, copies, schema)
            writer.write_table(decided)
            problems_writer.write_table(problems_of(decided))


def _manifest_rows(
    rows: pa.Table,
    indices: NDArray[np.int64],
    candidates: Candidates,
    decision: Decision,
    copies: tuple[NDArray[np.int64], NDArray[np.float64]],
    schema: pa.Schema,
) -> pa.Table:
    """Return rows with the decision; ``indices`` are those of candidates, -1 for other files."""
    columns = {name: rows[name].to_pylist() for name in schema.names if name in rows.column_names}
    # an image's own size: that of the collection's manifest depends on the order of its lines
    sizes = zip(rows["size"].to_pylist(), indices, strict=True)
    columns["file_bytes"] = [size if index >= 0 else None for size, index in sizes]
    columns["mask"] = [
        None if files is None else SEPARATOR.join(file["path"] for file in files)
        for files in rows["mask_files"].to_pylist()
    ]
    columns["split"] = [None] * len(rows)
    columns["duplicate_of"] = [None] * len(rows)
    columns["difference"] = [None] * len(rows)
    for row in np.flatnonzero(indices >= 0).tolist():
        index = int(indices[row])
        if decision.splits[index] >= 0:
            columns["split"][row] = SPLITS[decision.splits[index]]
        else:
            columns["outcome"][row], columns["reason"][row] = decision.excluded[index]
        original, difference = int(copies[0][index]), float(copies[1][index])
        if original >= 0:
            columns["duplicate_of"][row] = candidates.path(original)
            columns["difference"][row] = difference
    for name in [name for name in columns if name.endswith("_sha256")]:
        columns[name] = [None if digest is None else digest.hex() for digest in columns[name]]
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _nearest_original(decision: Decision) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the original of each candidate (-1: it is not a copy), and the difference.

    The original of a pair is the earlier image, or the later one if only that is used. If a candidate
    is in several pairs, the one with the smallest difference counts, then the first.
    """
    duplicates, used = decision.duplicates, decision.splits >= 0
    original = np.full(len(used), -1)
    difference = np.zeros(len(used))
    for pair in np.argsort(duplicates.difference, kind="stable")[::-1]:
        kept, copy = duplicates.first[pair], duplicates.second[pair]
        if used[copy] and not used[kept]:
            kept, copy = copy, kept
        original[copy] = kept
        difference[copy] = duplicates.difference[pair]
    return original, difference
