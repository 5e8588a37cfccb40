"""The images that could be read, with everything that decides whether and where they are used."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.collection.collection import BATCH, Collection
from darkroom.collection.entries import BAD, SPLITS
from darkroom.collection.labels import LabelSets, classes_in, make_label_sets
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.prepare import Prepare
from darkroom.errors import listed
from darkroom.preparation.ingest import IngestedImages
from darkroom.preparation.measures import HASH_BYTES
from darkroom.preparation.outcomes import Outcomes, describe_files, write_problems

MAX_NAMES = 20
"""Classes that a message names."""

_ARRAYS = ("rows", "reads", "labels", "given", "groups", "weights", "digests", "hashes")


@dataclass(frozen=True)
class Candidates:
    """The images that could be read, in the order of their paths: one value each."""

    collection: Collection
    images: IngestedImages
    rows: NDArray[np.int64]
    """Their rows in the collection."""
    reads: NDArray[np.int64]
    """Their indices in ``images``."""
    class_names: list[str]
    """Sorted."""
    labels: NDArray[np.int64]
    """Index in ``class_names``; where images have several labels, in ``sets``."""
    given: NDArray[np.int8]
    """Index in ``SPLITS`` of the split that the collection gives, -1 for none."""
    groups: NDArray[np.int64]
    """Number of the group that the collection gives, -1 for none."""
    group_names: list[str]
    weights: NDArray[np.float64]
    """Of the collection, 1 where it gives none."""
    digests: NDArray[np.uint64]
    """First eight bytes of the SHA-256 of the prepared pixels."""
    hashes: NDArray[np.uint8]
    """Perceptual hashes."""
    sets: LabelSets | None = None
    """The sets of labels that occur; None: an image has one label."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    """Of all files."""
    unreadable_classes: list[str] = field(default_factory=list)
    """Classes of the collection without a readable image, which are not in ``class_names``."""

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, index: int) -> str:
        """Returns the path of one candidate."""
        return self.collection.table["path"][int(self.rows[index])].as_py()

    def label(self, index: int) -> str:
        """Returns the label of one candidate as text, which is empty if it has none."""
        names = self.class_names if self.sets is None else self.sets.names
        return names[self.labels[index]]

    def paths(self, indices: NDArray[np.int64]) -> Iterator[str]:
        """Yields the paths of many candidates, given in rising order."""
        rows, start = self.rows[indices], 0
        for batch in self.collection.table.select(["path"]).to_batches():
            low, high = np.searchsorted(rows, (start, start + len(batch)))
            yield from batch["path"].take(rows[low:high] - start).to_pylist()
            start += len(batch)

    def stored(self, index: int) -> pa.Buffer:
        """Returns the prepared image of one candidate as it is stored, without copying."""
        return self.images.stored(int(self.reads[index]))

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns prepared images: uint8 ``(n, height, width, channels)``."""
        return self.images.pixels(self.reads[indices])

    def pixel_digests(self, indices: NDArray[np.int64]) -> bytes:
        """Returns the SHA-256 of each prepared image, one after the other."""
        parts = np.array_split(self.reads[indices], -(-len(indices) // BATCH))
        digests = (self.images.facts(part)["pixel_sha256"].to_pylist() for part in parts)
        return b"".join(chain.from_iterable(digests))


def select_candidates(collection: Collection, images: IngestedImages) -> Candidates:
    """Return the readable images and the outcomes of all files."""
    labels = pc.unique(collection.table["label"]).drop_null().sort()
    class_names = sorted(classes_in(labels.to_pylist(), collection.separator))
    group_names = pc.unique(collection.table["group"]).drop_null().sort()
    splits = pa.array(SPLITS)
    outcomes = Outcomes()
    columns: dict[str, list[NDArray]] = {name: [] for name in _ARRAYS}
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
        digests = b"".join(digest[:8] for digest in chosen["pixel_sha256"].to_pylist())
        columns["digests"].append(np.frombuffer(digests, np.uint64))
        hashes = np.frombuffer(b"".join(chosen["hash"].to_pylist()), np.uint8)
        columns["hashes"].append(hashes.reshape(len(chosen), HASH_BYTES))
        num_rows += len(rows)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    occurring, recoded = np.unique(joined["labels"], return_inverse=True)
    readable = labels.take(occurring)
    unreadable = sorted(set(class_names) - classes_in(readable.to_pylist(), collection.separator))
    if unreadable:
        labels, joined["labels"] = readable, recoded
        class_names = sorted(classes_in(labels.to_pylist(), collection.separator))
    sets = None
    if collection.separator is not None:
        sets = make_label_sets(labels.to_pylist(), class_names, collection.separator)
    return Candidates(
        collection=collection,
        images=images,
        class_names=class_names,
        group_names=group_names.to_pylist(),
        sets=sets,
        outcomes=outcomes,
        unreadable_classes=unreadable,
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
            + " to leave them out"
        )
        troubles.add(Trouble("Files that cannot be used", message))
    if not counts["used"]:
        message = f"data.path: none of the files in {collection.files.name} is a readable image"
        troubles.add(Trouble("No readable image", message))
        troubles.refuse()
    if candidates.unreadable_classes:
        message = (
            f"data.path: no file of the class {listed(candidates.unreadable_classes, MAX_NAMES)} in "
            f"{collection.files.name} is a readable image; add some, or remove the class"
        )
        troubles.add(Trouble("Classes without a readable image", message))


def codes(values: pa.ChunkedArray, names: pa.Array, dtype: type) -> NDArray:
    """Returns the index in ``names`` of each value, -1 where it is null."""
    return pc.fill_null(pc.index_in(values, names), -1).to_numpy().astype(dtype)
