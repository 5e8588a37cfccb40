"""The images that could be read, with everything that decides whether and where they are used."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.collection import Collection
from darkroom.collection.entries import BAD, SPLITS
from darkroom.collection.entry_table import BATCH
from darkroom.collection.labels import LabelSets, classes_in, make_label_sets
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.prepare import Prepare
from darkroom.errors import listed
from darkroom.inputs import INPUT_WORDS, InputWords
from darkroom.preparation.measures import HASH_BYTES
from darkroom.preparation.outcomes import Outcomes, describe_files, write_problems
from darkroom.preparation.readings import Content, Readings
from darkroom.preparation.targets.interface import prepared_target
from darkroom.reporting.palette import overlay

MAX_NAMES = 20
"""Maximum number of classes in a message."""

_ARRAYS = ("rows", "reads", "labels", "given", "groups", "weights", "digests", "hashes")


@dataclass(frozen=True)
class Candidates:
    """The readable images, sorted by path. Arrays have one value per image."""

    collection: Collection
    images: Readings
    rows: NDArray[np.int64]
    """Index in the rows of the collection."""
    reads: NDArray[np.int64]
    """Index in ``images``."""
    class_names: list[str]
    """Sorted."""
    labels: NDArray[np.int64]
    """Index in ``sets``."""
    given: NDArray[np.int8]
    """Index in ``SPLITS`` of the given split, -1 for none."""
    groups: NDArray[np.int64]
    """Index in ``group_names`` of the given group, -1 for none."""
    group_names: list[str]
    weights: NDArray[np.float64]
    """Weights given by the collection, 1 by default."""
    digests: NDArray[np.uint64]
    """First eight bytes of the SHA-256 of the prepared pixels."""
    hashes: NDArray[np.uint8]
    """Perceptual hashes."""
    sets: LabelSets
    """The sets of labels that occur."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    """Of all files."""
    unreadable_classes: list[str] = field(default_factory=list)
    """Classes of the collection without a readable image, which are not in ``class_names``."""
    masks: NDArray[np.uint64] | None = None
    """First eight bytes of the SHA-256 of the prepared masks; None: there are no masks."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def words(self) -> InputWords:
        """The words for the candidates."""
        return INPUT_WORDS[self.collection.input]

    def path(self, index: int) -> str:
        """Return the path of one candidate."""
        return self.collection.table["path"][int(self.rows[index])].as_py()

    def label(self, index: int) -> str:
        """Return the label of one candidate as text, empty if it has none."""
        return self.sets.names[self.labels[index]]

    def agree(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pairs of candidates have the same label, or the same mask."""
        truths = self.labels if self.masks is None else self.masks
        return truths[first] == truths[second]

    def paths(self, indices: NDArray[np.int64]) -> Iterator[str]:
        """Yield the paths of candidates, given in ascending order."""
        rows, start = self.rows[indices], 0
        for batch in self.collection.table.select(["path"]).to_batches():
            low, high = np.searchsorted(rows, (start, start + len(batch)))
            yield from batch["path"].take(rows[low:high] - start).to_pylist()
            start += len(batch)

    def content(self, is_train: NDArray[np.bool_]) -> Content:
        """Return what shards store of the inputs, by their index in ``images``.

        Args:
            is_train: whether each candidate is in the train split.
        """
        is_read_for_train = np.zeros(len(self.images), np.bool_)
        is_read_for_train[self.reads[is_train]] = True
        return self.images.content(is_read_for_train)

    def stored_mask(self, index: int) -> pa.Buffer | None:
        """Return the mask of one candidate as stored, without a copy; None: there are no masks."""
        masks = self.images.masks
        return None if masks is None else masks.stored(int(self.reads[index]))

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return prepared images: uint8 ``(n, height, width, channels)``."""
        return self.images.pixels(self.reads[indices])

    def pictures(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images with their masks over them, for a report: uint8 ``(n, height, width, 3)``.

        Without masks, these are the prepared images.
        """
        images, masks = self.pixels(indices), self.images.masks
        if masks is None:
            return images
        reads = self.reads[indices].tolist()
        shown = zip(images, map(masks.pixels, reads), strict=True)
        return np.stack([overlay(image, mask) for image, mask in shown])

    def pixel_digests(self, indices: NDArray[np.int64]) -> bytes:
        """Return the SHA-256 digests of the prepared images, concatenated.

        Images with masks have digests over those of the image and the mask.
        """
        parts = np.array_split(self.reads[indices], -(-len(indices) // BATCH))
        facts = (self.images.facts(part) for part in parts)
        if self.masks is None:
            return b"".join(chain.from_iterable(of["pixel_sha256"].to_pylist() for of in facts))
        both = (zip(of["pixel_sha256"], of["mask_sha256"], strict=True) for of in facts)
        pairs = (image.as_py() + mask.as_py() for image, mask in chain.from_iterable(both))
        return b"".join(hashlib.sha256(pair).digest() for pair in pairs)


def select_candidates(collection: Collection, images: Readings) -> Candidates:
    """Return the readable images and the outcomes of all files."""
    listed_labels = pc.unique(collection.table["label"]).drop_null().sort()
    labels = listed_labels if images.masks is None else images.masks.labels()
    class_names = collection.class_names(labels.to_pylist())
    group_names = pc.unique(collection.table["group"]).drop_null().sort()
    splits = pa.array(SPLITS)
    outcomes = Outcomes()
    columns: dict[str, list[NDArray]] = {name: [] for name in _ARRAYS}
    mask_digests: list[NDArray[np.uint64]] = []
    num_rows = 0
    for rows in describe_files(collection, images):
        outcomes.add(rows)
        used = pc.equal(rows["outcome"], "used").to_numpy()
        chosen = rows.filter(used)
        columns["rows"].append(num_rows + np.flatnonzero(used))
        columns["reads"].append(chosen["read"].to_numpy())
        columns["labels"].append(codes(chosen["label"], labels, np.int64))
        columns["given"].append(codes(chosen["split"], splits, np.int8))
        columns["groups"].append(codes(chosen["group"], group_names, np.int64))
        columns["weights"].append(pc.fill_null(chosen["weight"], 1.0).to_numpy())
        columns["digests"].append(_prefixes(chosen["pixel_sha256"]))
        if images.masks is not None:
            mask_digests.append(_prefixes(chosen["mask_sha256"]))
        hashes = np.frombuffer(b"".join(chosen["hash"].to_pylist()), np.uint8)
        columns["hashes"].append(hashes.reshape(len(chosen), HASH_BYTES))
        num_rows += len(rows)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    occurring, recoded = np.unique(joined["labels"], return_inverse=True)
    readable = labels.take(occurring)
    unreadable = sorted(set(class_names) - classes_in(readable.to_pylist(), collection.separator))
    if unreadable:
        labels, joined["labels"] = readable, recoded
        class_names = [name for name in class_names if name not in unreadable]
    return Candidates(
        collection=collection,
        images=images,
        class_names=class_names,
        group_names=group_names.to_pylist(),
        sets=make_label_sets(labels.to_pylist(), class_names, collection.separator),
        outcomes=outcomes,
        unreadable_classes=unreadable,
        masks=None if images.masks is None else np.concatenate(mask_digests),
        **joined,
    )


def check_candidates(
    candidates: Candidates, options: Prepare, problems: Path, troubles: Troubles
) -> None:
    """Check that the options allow the files' outcomes, and that every class has an image.

    Args:
        problems: CSV file that lists the unused files; written only if the outcomes are not allowed.
        troubles: gets unusable files and files with conflicting labels, if these are errors, and classes
            without a readable image.

    Raises:
        UserError: no file is a readable image. The message includes all troubles so far.
    """
    collection, outcomes = candidates.collection, candidates.outcomes
    counts = outcomes.counts
    remedies: dict[str, str] = {}
    if options.on_bad_image == "error":
        remedies |= dict.fromkeys(BAD, "prepare.on_bad_image: skip")
    if options.on_conflict == "error":
        remedies["conflicting label"] = "prepare.on_conflict: drop"
    bad = [outcome for outcome in remedies if counts[outcome]]
    if bad:
        write_problems(describe_files(collection, candidates.images), problems)
        lines = [f"  {outcomes.describe(outcome)}" for outcome in bad]
        message = (
            f"data.path: {sum(counts[outcome] for outcome in bad):,} of {counts.total():,} files in "
            f"{collection.files.name} cannot be used; all are listed in {problems}:\n"
            + "\n".join(lines)
            + (f"\n{collection.missing}" if collection.missing else "")
            + "\nRepair or remove them, or set "
            + " and ".join(dict.fromkeys(remedies[outcome] for outcome in bad))
            + " to exclude them"
        )
        troubles.add(Trouble("Files that cannot be used", message))
    if not counts["used"]:
        message = f"data.path: none of the files in {collection.files.name} is a readable image"
        troubles.add(Trouble("No readable image", message))
        troubles.refuse()
    if candidates.unreadable_classes:
        names = listed(candidates.unreadable_classes, MAX_NAMES)
        lacking = prepared_target(collection.target).lacking(names, collection.files.name)
        message = f"data.path: {lacking}"
        troubles.add(Trouble("Classes without a readable image", message))


def _prefixes(digests: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest."""
    return np.frombuffer(b"".join(digest[:8] for digest in digests.to_pylist()), np.uint64)


def codes(values: pa.ChunkedArray, names: pa.Array, dtype: type) -> NDArray:
    """Return the index in ``names`` of each value, -1 for null."""
    return pc.fill_null(pc.index_in(values, names), -1).to_numpy().astype(dtype)
