"""Find the test images that two models have in common, and refuse to compare what cannot be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from darkroom.comparison.predictions import Key, NotComparableError, Predictions, read_parquet
from darkroom.comparison.side import Side
from darkroom.errors import counted, listed
from darkroom.metrics.groups import groups_of
from darkroom.targets import WORDS

NUM_NAMED = 5
"""Number of classes and images that a message names."""


@dataclass(frozen=True)
class Matched:
    """The predictions of two models for the same images, in the same order."""

    first: Predictions
    second: Predictions
    groups: NDArray[np.int64] | None
    """The group of each image, ``(n,)``: images of a group, and copies of each other, share one. None if
    each image is by itself."""
    remarks: list[str]

    @property
    def are_alike(self) -> bool:
        """Whether both models predict the same for every image."""
        pairs = ((self.first.preds, self.second.preds), (self.first.hits, self.second.hits))
        return all(np.array_equal(*pair) for pair in pairs)


def match(first: Side, second: Side, common: bool = False) -> Matched:
    """Return both models' predictions for the same test images: same path, label and content.

    The contents are the same if both used the same prepared data, by its digest, or if the manifests
    of both have the same SHA-256 for a file.

    Args:
        common: compare on the images that both have; otherwise all must be the same.

    Raises:
        NotComparableError: the models have other classes, or were tested on other images.
    """
    before, after = first.predictions, second.predictions
    _check_classes(first, second)
    after = after.with_classes(before.class_names)
    places = {key: index for index, key in enumerate(after.keys)}
    both = [(index, places[key]) for index, key in enumerate(before.keys) if key in places]
    relabelled = {
        before.keys[one] for one, other in both if (before.targets[one] != after.targets[other]).any()
    }
    is_known, replaced, table = _replaced(first, second, [before.keys[one] for one, _ in both])
    differing = relabelled | replaced
    kept = [pair for pair in both if before.keys[pair[0]] not in differing]
    counts = {
        f"only in {first.name}": len(before) - len(both),
        f"only in {second.name}": len(after) - len(both),
        "with other labels": len(relabelled),
        "with other contents": len(replaced - relabelled),
    }
    found = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    if found and not (common and kept):
        remedy = "--common compares on these" if kept else "there is nothing to compare"
        raise NotComparableError(
            f"{first.name} and {second.name} were tested on different {before.words.several}: "
            f"{counted(len(kept), before.words.one)} in common, {found}; {remedy}"
        )
    remarks = (
        [f"Compared on {counted(len(kept), f'common {before.words.one}')}; excluded: {found}."]
        if found
        else []
    )
    if not is_known:
        remarks.append(
            f"The {before.words.several} are the same by path and label; whether their contents are,"
            " too, is not known."
        )
    one, other = before.at([pair[0] for pair in kept]), after.at([pair[1] for pair in kept])
    return Matched(one, other, None if table is None else groups_of(table, one.paths), remarks)


def _check_classes(first: Side, second: Side) -> None:
    before, after = first.predictions, second.predictions
    if before.target != after.target:
        kinds = (
            f"{side.name} predicts {WORDS[side.predictions.target].per_image}"
            for side in (first, second)
        )
        raise NotComparableError(", ".join(kinds))
    only = [
        f"only {side.name} has {listed(sorted(names), NUM_NAMED)}"
        for side, names in (
            (first, set(before.class_names) - set(after.class_names)),
            (second, set(after.class_names) - set(before.class_names)),
        )
        if names
    ]
    if only:
        raise NotComparableError(f"the models have different classes: {'; '.join(only)}")


def _replaced(first: Side, second: Side, keys: Sequence[Key]) -> tuple[bool, set[Key], pa.Table | None]:
    """Return whether contents are known, the images whose contents differ, and a manifest if any."""
    one, other = first.data_digest, second.data_digest
    length = min(len(one), len(other))  # MLflow keeps only the beginning
    if length and one[:length] == other[:length]:
        return True, set(), _table(second) or _table(first)
    before, after = _table(first), _table(second)
    if before is None or after is None:
        return False, set(), after or before
    old, new = (
        dict(zip(table["path"].to_pylist(), table["file_sha256"].to_pylist(), strict=True))
        for table in (before, after)
    )
    is_known = all(old.get(path) and new.get(path) for path, _ in keys)  # rows are not files
    return is_known, {key for key in keys if old.get(key[0]) != new.get(key[0])}, after


def _table(side: Side) -> pa.Table | None:
    content = side.read_manifest()
    if content is None:
        return None
    try:
        return read_parquet(content, ["path", "group", "duplicate_of", "file_sha256"])
    except (pa.ArrowException, OSError, KeyError):  # of an earlier version
        return None
