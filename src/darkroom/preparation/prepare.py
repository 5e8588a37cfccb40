"""What ``prepare`` settles and writes: the layout, the splits' shards, the manifest, dataset.json."""

import hashlib
import json
import shutil
import statistics
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.collection.entries import SPLITS, Outcome, Split
from darkroom.collection.labels import LabelSets
from darkroom.config.prepare import Prepare
from darkroom.dataset.info import FORMAT_VERSION, DatasetInfo
from darkroom.dataset.shards import Shards, ShardWriter
from darkroom.dataset.storage import Storage
from darkroom.decoding.decode import Header, PixelLayout, Resize
from darkroom.digests import FileDigest
from darkroom.errors import UserError
from darkroom.preparation.curation import SHOWN, Curation, Duplicates
from darkroom.preparation.ingest import read_headers
from darkroom.preparation.outcomes import PROBLEMS, Candidates, describe, problems_of
from darkroom.preparation.splits import SplitError, SplitRule, Unsplit, assign_splits
from darkroom.preparation.statistics import channel_histogram, mean_and_std
from darkroom.preparation.trouble import Trouble, Troubles

LARGEST_AUTO_SIZE = 224
SMALLEST_AUTO_SIZE = 32
LEAST_SHARED_PERCENT = 95
"""Percentage of the images that share a shape for ``image_size: auto`` to keep that shape."""

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
    ]
)
"""One row for every file found, in the order of their paths. ``pixel_sha256``, ``brightness`` (mean
grey, 0..255) and ``sharpness`` (variance of the Laplacian) are of the prepared pixels; width and height
are of the file, in pixels, as displayed. ``duplicate_of`` names an image with the same pixels
(``difference`` 0) or nearly the same: an earlier one, or that which is used in its place. Several
labels are sorted, with ``data.label_separator`` in between."""


@dataclass(frozen=True)
class Decision:
    """What becomes of the candidates: one value each."""

    splits: NDArray[np.int8]
    """Index in ``SPLITS``, -1 for those that are left out."""
    left_out: dict[int, tuple[Outcome, str]]
    duplicates: Duplicates


def settle_layout(
    collection: Collection, options: Prepare, workers: int, advance: Callable[[int], None]
) -> PixelLayout:
    """Settles the layout, and reads the headers of all files only where it depends on them."""
    if options.image_size != "auto" and options.channels != "auto":
        return PixelLayout(options.image_size, options.image_size, options.channels, options.resize)
    headers = read_headers(collection, options.tiff, workers, advance)
    return choose_layout(headers, options.image_size, options.channels, options.resize)


def choose_layout(
    headers: Iterable[Header],
    image_size: Literal["auto"] | int,
    channels: Literal["auto", 1, 3],
    resize: Resize,
) -> PixelLayout:
    """Settles what ``auto`` means for these images, as the parameters' descriptions say.

    Raises:
        UserError: there is no header.
    """
    packed = array("q")
    all_grey = True
    for header in headers:
        packed.append(header.height << 32 | header.width)
        all_grey = all_grey and header.is_grey
    if not packed:
        raise UserError("data.path: none of the files is a readable image")
    if image_size == "auto":
        height, width = _auto_shape(np.frombuffer(packed, np.int64))
    else:
        height = width = image_size
    if channels == "auto":
        channels = 1 if all_grey else 3
    return PixelLayout(height, width, channels, resize)


def _auto_shape(packed: NDArray[np.int64]) -> tuple[int, int]:
    """Returns the height and width that ``image_size: auto`` means.

    Args:
        packed: ``(num_images,)``, the height of each image times 2**32 plus its width.
    """
    shapes, counts = np.unique(packed, return_counts=True)
    height, width = divmod(int(shapes[counts.argmax()]), 2**32)
    is_shared = 100 * int(counts.max()) >= LEAST_SHARED_PERCENT * len(packed)
    if is_shared and max(height, width) <= LARGEST_AUTO_SIZE:
        return height, width
    median = statistics.median_low(np.minimum(packed >> 32, packed & 0xFFFFFFFF).tolist())
    side = min(max(median // 32 * 32, SMALLEST_AUTO_SIZE), LARGEST_AUTO_SIZE)
    return side, side


def decide(
    candidates: Candidates,
    curation: Curation,
    duplicates: Duplicates,
    options: Prepare,
    seed: int,
    troubles: Troubles,
) -> Decision:
    """Gives every candidate that is not left out a split.

    Args:
        troubles: told what ``assign_splits`` refuses, with the first of the images at fault; the
            decision then leaves all images out.
    """
    kept = np.flatnonzero(curation.groups >= 0)
    keys = candidates.digests.copy()
    grouped = candidates.groups >= 0
    group_keys = [hashlib.sha256(group.encode()).digest()[:8] for group in candidates.group_names]
    keys[grouped] = np.frombuffer(b"".join(group_keys), np.uint64)[candidates.groups[grouped]]
    fold, _, num_folds = (options.fold or "").partition("/")
    rule = SplitRule(
        options.split,
        options.val_fraction,
        options.test_fraction,
        (int(fold), int(num_folds)) if fold else None,
        seed,
    )
    unsplit = Unsplit(
        candidates.class_names,
        candidates.labels[kept],
        curation.groups[kept],
        candidates.given[kept],
        keys[kept],
        None if candidates.sets is None else candidates.sets.members,
    )
    try:
        assigned = assign_splits(unsplit, rule)
    except SplitError as error:
        shown = ", ".join(candidates.path(index) for index in kept[error.images[:SHOWN]].tolist())
        message = f"{error}: {shown}{', ...' if len(error.images) > SHOWN else ''}"
        troubles.add(Trouble("Splits", message))
        assigned = np.full(len(kept), -1, np.int8)
    except UserError as error:
        troubles.add(Trouble("Splits", f"{error}"))
        assigned = np.full(len(kept), -1, np.int8)
    splits = np.full(len(candidates), -1, np.int8)
    splits[kept] = assigned
    left_out = dict(curation.outcomes)
    for index in kept[assigned < 0].tolist():
        left_out[index] = ("duplicate", "its copy is in a later split, and stable splits move no image")
    return Decision(splits, left_out, duplicates)


def write_splits(
    candidates: Candidates,
    decision: Decision,
    layout: PixelLayout,
    storage: Storage,
    folder: Path,
    advance: Callable[[int], None],
) -> DatasetInfo:
    """Writes ``folder/{train,val,test}/*.arrow``, images in the order of their paths.

    Returns:
        What dataset.json holds.
    """
    weights = candidates.collection.table["weight"]
    weighted = weights.null_count < len(weights)
    names, sets = candidates.class_names, candidates.sets
    num_classes = None if sets is None else len(names)
    files: dict[str, FileDigest] = {}
    for code, split in enumerate(SPLITS):
        shutil.rmtree(folder / split, ignore_errors=True)  # shards of a larger set would stay
        chosen = np.flatnonzero(decision.splits == code)
        with ShardWriter(
            folder / split, layout.shape, len(chosen), storage, weighted, num_classes
        ) as writer:
            for index, path in zip(chosen.tolist(), candidates.paths(chosen), strict=True):
                label, weight = int(candidates.labels[index]), float(candidates.weights[index])
                labels = label if sets is None else sets.classes(label)
                writer.add(candidates.stored(index), labels, path, weight)
                advance(1)
        files |= {f"{split}/{name}": digest for name, digest in writer.digests.items()}
    of_splits = {split: candidates.labels[decision.splits == code] for code, split in enumerate(SPLITS)}
    counts, sizes = _count_labels(of_splits, len(names), sets)
    mean, std = mean_and_std(channel_histogram(Shards(folder / "train")))
    return DatasetInfo(
        format_version=FORMAT_VERSION,
        class_names=names,
        multi_label=sets is not None,
        counts={split: dict(zip(names, by_class, strict=True)) for split, by_class in counts.items()},
        labels_per_image=sizes,
        input_size=(layout.height, layout.width),
        channels=layout.channels,
        resize=layout.resize,
        mean=mean,
        std=std,
        digest=_digest(candidates, decision.splits),
        files=files,
    )


def _count_labels(
    of_splits: Mapping[Split, NDArray[np.int64]], num_classes: int, sets: LabelSets | None
) -> tuple[dict[Split, list[int]], dict[Split, list[int]]]:
    """Counts of each split the images of each class, and those with 0, 1, 2, ... labels.

    Args:
        of_splits: the labels of each split, as those of ``Candidates``.
    """
    if sets is None:
        counts = {
            split: np.bincount(labels, minlength=num_classes).tolist()
            for split, labels in of_splits.items()
        }
        return counts, {split: [0, len(labels)] for split, labels in of_splits.items()}
    counts, sizes = {}, {}
    num_labels = np.diff(sets.members.indptr)
    for split, labels in of_splits.items():
        counts[split] = (np.bincount(labels, minlength=len(sets.names)) @ sets.members).tolist()
        sizes[split] = np.bincount(num_labels[labels]).tolist()
    return counts, sizes


def count(info: DatasetInfo, outcomes: Counter[str], decision: Decision) -> dict[str, dict[str, int]]:
    """Returns the key numbers: images by split, files by outcome, pairs of duplicates.

    Where images may have several labels also how many have 0, 1, 2, ... of them.
    """
    final = Counter(outcomes)
    for outcome, _ in decision.left_out.values():
        final[outcome] += 1
        final["used"] -= 1
    same = int((decision.duplicates.difference == 0).sum())
    counts = {
        "num_images": {split: info.num_images(split) for split in SPLITS},
        "num_files": {outcome.replace(" ", "_"): final[outcome] for outcome in get_args(Outcome)},
        "num_pairs": {"same_pixels": same, "nearly_same_pixels": len(decision.duplicates) - same},
    }
    if info.multi_label:
        by_number = map(sum, zip_longest(*info.labels_per_image.values(), fillvalue=0))
        counts["num_images_by_labels"] = {str(number): images for number, images in enumerate(by_number)}
    return counts


def count_by_label(info: DatasetInfo) -> dict[str, dict[str, dict[str, int]]]:
    """Returns the images by split of each label, where images may have several; else nothing."""
    if not info.multi_label:
        return {}
    return {
        "num_images_of_label": {
            name: {split: info.counts[split][name] for split in SPLITS} for name in info.class_names
        }
    }


def write_manifest(candidates: Candidates, decision: Decision, path: Path, problems: Path) -> None:
    """Writes a row for every file found, as Parquet, with the same bytes for the same rows.

    Args:
        problems: CSV that gets those which are not used.
    """
    copies = _nearest_original(decision)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with (
        pq.ParquetWriter(path, MANIFEST, compression="zstd") as writer,
        pyarrow.csv.CSVWriter(problems, PROBLEMS) as problems_writer,
    ):
        for rows in describe(candidates.collection, candidates.images):
            used = pc.equal(rows["outcome"], "used").to_numpy()
            indices = np.full(len(rows), -1)
            indices[used] = np.arange(done, done + used.sum())
            done += int(used.sum())
            decided = _manifest_rows(rows, indices, candidates, decision, copies)
            writer.write_table(decided)
            problems_writer.write_table(problems_of(decided))


def _manifest_rows(
    rows: pa.Table,
    indices: NDArray[np.int64],
    candidates: Candidates,
    decision: Decision,
    copies: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> pa.Table:
    """Completes rows with what was decided; ``indices`` are those of the candidates, -1 for others."""
    columns = {name: rows[name].to_pylist() for name in MANIFEST.names if name in rows.column_names}
    columns["split"] = [None] * len(rows)
    columns["duplicate_of"] = [None] * len(rows)
    columns["difference"] = [None] * len(rows)
    for row in np.flatnonzero(indices >= 0).tolist():
        index = int(indices[row])
        if decision.splits[index] >= 0:
            columns["split"][row] = SPLITS[decision.splits[index]]
        else:
            columns["outcome"][row], columns["reason"][row] = decision.left_out[index]
        original, difference = int(copies[0][index]), float(copies[1][index])
        if original >= 0:
            columns["duplicate_of"][row] = candidates.path(original)
            columns["difference"][row] = difference
    for name in ("file_sha256", "pixel_sha256"):
        columns[name] = [None if digest is None else digest.hex() for digest in columns[name]]
    return pa.table({name: columns[name] for name in MANIFEST.names}, schema=MANIFEST)


def _nearest_original(decision: Decision) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns for each candidate the one that it is a copy of, -1 for none, and how unlike they are.

    That is the earlier one, but where only the later one is used, the later; of several the most
    alike, of these the first.
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


def _digest(candidates: Candidates, splits: NDArray[np.int8]) -> str:
    """Names the prepared data by content: the same pixels, labels, weights and splits, one digest."""
    used = np.flatnonzero(splits >= 0)
    words = np.frombuffer(candidates.pixel_digests(used), ">u8").reshape(len(used), 4)
    labels = candidates.labels[used]
    if candidates.sets is not None:
        labels = candidates.sets.keys()[labels]
    columns: tuple[NDArray, ...] = (
        splits[used],
        labels,
        candidates.weights[used],
        words,
    )
    order = np.lexsort((*words.T, *reversed(columns[:3])))
    digest = hashlib.sha256(json.dumps(candidates.class_names).encode())
    for column, kind in zip(columns, ("<i1", "<i8", "<f8", ">u8"), strict=True):
        digest.update(column[order].astype(kind).tobytes())
    return digest.hexdigest()


def summarise(info: DatasetInfo, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Says in one line what was prepared, and what was left out."""
    images, files, pairs = counts["num_images"], counts["num_files"], counts["num_pairs"]
    height, width = info.input_size
    left_out = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in files.items()
        if name != "used" and count
    ]
    num_labels = sum(sum(of_split.values()) for of_split in info.counts.values())
    each = f" ({num_labels / sum(images.values()):.2f} an image)" if info.multi_label else ""
    alike = [f"{count:,} pairs with {name.replace('_', ' ')}" for name, count in pairs.items() if count]
    return (
        f"prepare: {sum(images.values()):,} images of {len(info.class_names)} classes{each} as"
        f" {height} x {width} x {info.channels}: "
        + ", ".join(f"{images[split]:,} {split}" for split in SPLITS)
        + (f"; left out: {', '.join(left_out)}" if left_out else "")
        + (f"; {', '.join(alike)}" if alike else "")
    )
