"""What became of every file: entries and what reading them brought, as one stream of rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from darkroom.collection.collection import BATCH, Collection
from darkroom.collection.entries import BAD, SPLITS
from darkroom.collection.labels import LabelSets, classes_in, make_label_sets
from darkroom.collection.sidecars import is_sidecar
from darkroom.config.prepare import Prepare
from darkroom.errors import listed
from darkroom.preparation.ingest import Images
from darkroom.preparation.measures import HASH_BYTES
from darkroom.preparation.trouble import Trouble, Troubles

PROBLEMS = pa.schema([(name, pa.string()) for name in ("path", "label", "outcome", "reason")])
"""The columns of problems.csv."""

MAX_NAMES = 20
"""Classes that a message names."""


def describe(collection: Collection, images: Images) -> Iterator[pa.Table]:
    """Yields all rows of the collection with the outcome and the facts of each, in batches.

    The columns are those of ``Collection.table`` and of ``Images.facts``, and ``read``, the index in
    ``images``; all that reading brought is null where a file was not read.
    """
    done = 0
    for batch in collection.table.to_batches(BATCH):
        to_read = pc.is_null(batch["outcome"]).to_numpy(zero_copy_only=False)
        reads = np.arange(done, done + to_read.sum())
        done += len(reads)
        facts = images.facts(reads).append_column("read", pa.array(reads))
        facts = facts.take(pa.array(np.cumsum(to_read) - 1, mask=~to_read))
        # what reading brought explains more than what the listing said of the same file
        is_explained = pc.fill_null(pc.not_equal(facts["reason"], ""), False)
        rows = pa.table(batch)
        columns = dict(zip(rows.column_names, rows.columns, strict=True))
        columns |= dict(zip(facts.column_names, facts.columns, strict=True))
        columns["outcome"] = pc.coalesce(rows["outcome"], facts["outcome"])
        columns["reason"] = pc.if_else(is_explained, facts["reason"], rows["reason"])
        if collection.is_labelled_by_folders:
            columns["outcome"] = _name_sidecars(rows["path"], columns["outcome"])
        yield pa.table(columns)


def _name_sidecars(paths: pa.ChunkedArray, outcomes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replaces the outcome of files that are called as sidecars are, and are no images."""
    is_no_image = pc.is_in(outcomes, pa.array(["empty", "not an image"]))
    if not pc.any(is_no_image).as_py():
        return outcomes
    is_named = pa.array([is_sidecar(path) for path in paths.to_pylist()])
    return pc.if_else(pc.and_(is_no_image, is_named), "sidecar", outcomes)


def problems_of(rows: pa.Table) -> pa.Table:
    """Returns what problems.csv holds of rows: those that are not used, and why."""
    not_used = rows.filter(pc.not_equal(rows["outcome"], "used"))
    return not_used.select(PROBLEMS.names).cast(PROBLEMS)


def check_outcomes(
    collection: Collection, images: Images, options: Prepare, problems: Path, troubles: Troubles
) -> Counter[str]:
    """Counts outcomes and writes a row for every file that is not used to the CSV ``problems``.

    Args:
        troubles: told of files that cannot be used, or that the manifest gives several labels, if the
            options say that this is an error, with the number and the first of each outcome.

    Raises:
        UserError: no file is a readable image; the message has the other troubles too.
    """
    counts: Counter[str] = Counter()
    firsts: dict[str, tuple[str, str]] = {}
    problems.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.csv.CSVWriter(problems, PROBLEMS) as writer:
        for rows in describe(collection, images):
            counts.update(rows["outcome"].to_pylist())
            not_used = problems_of(rows)
            writer.write_table(not_used)
            for row in not_used.to_pylist():
                firsts.setdefault(row["outcome"], (row["path"], row["reason"]))
    remedies: dict[str, str] = {}
    if options.on_bad_image == "error":
        remedies |= dict.fromkeys(BAD, "prepare.on_bad_image: skip")
    if options.on_conflict == "error":
        remedies["conflicting label"] = "prepare.on_conflict: drop"
    bad = [outcome for outcome in remedies if counts[outcome]]
    if bad:
        lines = [
            f"  {counts[outcome]:,} {outcome}, the first: {firsts[outcome][0]}: {firsts[outcome][1]}"
            for outcome in bad
        ]
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
    return counts


_ARRAYS = ("rows", "reads", "labels", "given", "groups", "weights", "digests", "hashes")


@dataclass(frozen=True)
class Candidates:
    """The images that could be read, in the order of their paths: one value each."""

    collection: Collection
    images: Images
    rows: NDArray[np.int64]
    """Their rows in the collection."""
    reads: NDArray[np.int64]
    """Their indices in ``Images``."""
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


def select_candidates(collection: Collection, images: Images, troubles: Troubles) -> Candidates:
    """Collects of the readable images what decides on their use and their split.

    Args:
        troubles: told of classes without a readable image, which are not among those of the candidates.
    """
    labels = pc.unique(collection.table["label"]).drop_null().sort()
    class_names = sorted(classes_in(labels.to_pylist(), collection.separator))
    group_names = pc.unique(collection.table["group"]).drop_null().sort()
    splits = pa.array(SPLITS)
    columns: dict[str, list[NDArray]] = {name: [] for name in _ARRAYS}
    num_rows = 0
    for rows in describe(collection, images):
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
        message = (
            f"data.path: no file of the class {listed(unreadable, MAX_NAMES)} in "
            f"{collection.files.name} is a readable image; add some, or remove the class"
        )
        troubles.add(Trouble("Classes without a readable image", message))
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
        **joined,
    )


def codes(values: pa.ChunkedArray, names: pa.Array, dtype: type) -> NDArray:
    """Returns the index in ``names`` of each value, -1 where it is null."""
    return pc.fill_null(pc.index_in(values, names), -1).to_numpy().astype(dtype)
