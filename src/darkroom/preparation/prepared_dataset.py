"""What later stages read: the shards of each split and dataset.json."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS
from darkroom.dataset.info import FORMAT_VERSION, DatasetInfo
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.digests import FileDigest
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.decision import Decision
from darkroom.preparation.targets.interface import prepared_target
from darkroom.void import VOID

MASKS_AT_ONCE = 256
"""Number of masks that are counted at once."""


def write_splits(
    candidates: Candidates,
    decision: Decision,
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
    target, num_labels = candidates.collection.target, np.diff(sets.members.indptr)
    counts: dict[str, dict[str, int]] = {}
    sizes: dict[str, list[int]] = {}
    files: dict[str, FileDigest] = {}
    content = candidates.content(decision.splits == SPLITS.index("train"))
    for code, split in enumerate(SPLITS):
        shutil.rmtree(folder / split, ignore_errors=True)  # shards of a larger set would remain
        chosen = np.flatnonzero(decision.splits == code)
        with ShardWriter(
            folder / split,
            content.shape,
            len(chosen),
            content.storage,
            weighted,
            target,
            len(names),
            content.input,
        ) as writer:
            for index, path in zip(chosen.tolist(), candidates.paths(chosen), strict=True):
                label, weight = int(candidates.labels[index]), float(candidates.weights[index])
                stored = prepared_target(target).stored(sets, label)
                mask = candidates.stored_mask(index)
                writer.add(content.stored(int(candidates.reads[index])), stored, path, weight, mask)
                advance(1)
        files |= {f"{split}/{name}": digest for name, digest in writer.digests.items()}
        labels = candidates.labels[chosen]
        by_class = (np.bincount(labels, minlength=len(sets.names)) @ sets.members).tolist()
        counts[split] = dict(zip(names, by_class, strict=True))
        sizes[split] = np.bincount(num_labels[labels], minlength=num_labels.min() + 1).tolist()
    return DatasetInfo(
        format_version=FORMAT_VERSION,
        class_names=names,
        target=target,
        counts=counts,
        labels_per_image=sizes,
        **content.facts_of(Shards(folder / "train")),
        pixels={} if candidates.masks is None else _count_pixels(folder, names),
        digest=_digest(candidates, decision.splits),
        files=files,
    )


def _count_pixels(folder: Path, names: list[str]) -> dict[str, dict[str, int]]:
    """Return the number of pixels of each class, by split."""
    pixels: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        shards = Shards(folder / split)
        counts = np.zeros(VOID + 1, np.int64)
        for part in np.array_split(np.arange(len(shards)), -(-len(shards) // MASKS_AT_ONCE)):
            counts += np.bincount(shards.gather_masks(part).ravel(), minlength=VOID + 1)
        pixels[split] = dict(zip(names, counts.tolist(), strict=False))
    return pixels


def _digest(candidates: Candidates, splits: NDArray[np.int8]) -> str:
    """Return a digest of the pixels, labels, weights and splits, whatever the order of the images."""
    used = np.flatnonzero(splits >= 0)
    words = np.frombuffer(candidates.pixel_digests(used), ">u8").reshape(len(used), 4)
    keys = prepared_target(candidates.collection.target).keys(candidates.sets)
    columns: tuple[NDArray, ...] = (
        splits[used],
        keys[candidates.labels[used]],
        candidates.weights[used],
        words,
    )
    order = np.lexsort((*words.T, *reversed(columns[:3])))
    digest = hashlib.sha256(json.dumps(candidates.class_names).encode())
    for column, kind in zip(columns, ("<i1", "<i8", "<f8", ">u8"), strict=True):
        digest.update(column[order].astype(kind).tobytes())
    return digest.hexdigest()
