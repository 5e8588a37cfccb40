"""What later stages read: the shards of each split and dataset.json."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS, Split
from darkroom.collection.labels import LabelSets
from darkroom.dataset.info import FORMAT_VERSION, DatasetInfo
from darkroom.dataset.shards import Shards, ShardWriter
from darkroom.dataset.storage import Storage
from darkroom.decoding.decode import PixelLayout
from darkroom.digests import FileDigest
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.statistics import channel_histogram, mean_and_std


def write_splits(
    candidates: Candidates,
    decision: Decision,
    layout: PixelLayout,
    storage: Storage,
    folder: Path,
    advance: Callable[[int], None],
) -> DatasetInfo:
    """Write ``folder/{train,val,test}/*.arrow``, with the images sorted by path.

    Returns:
        The content of dataset.json.
    """
    weights = candidates.collection.table["weight"]
    weighted = weights.null_count < len(weights)
    names, sets = candidates.class_names, candidates.sets
    num_classes = None if sets is None else len(names)
    files: dict[str, FileDigest] = {}
    for code, split in enumerate(SPLITS):
        shutil.rmtree(folder / split, ignore_errors=True)  # shards of a larger set would remain
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
    """Count the images of each class, and those with 0, 1, 2, ... labels, by split.

    Args:
        of_splits: the labels of each split, as in ``Candidates``.
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


def _digest(candidates: Candidates, splits: NDArray[np.int8]) -> str:
    """Return a digest of the pixels, labels, weights and splits, whatever the order of the images."""
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
