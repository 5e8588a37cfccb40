"""The split of every candidate, or why it is excluded."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import Outcome
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.config.prepare import Prepare
from darkroom.errors import UserError
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.curation import SHOWN, Curation, Duplicates
from darkroom.preparation.splits import assign_splits
from darkroom.preparation.unsplit import SplitError, SplitRule, Unsplit


@dataclass(frozen=True)
class Decision:
    """What is done with the candidates."""

    splits: NDArray[np.int8]
    """Index in ``SPLITS`` of each candidate, -1 if it is excluded."""
    excluded: dict[int, tuple[Outcome, str]]
    """Excluded candidates, with outcome and reason."""
    duplicates: Duplicates


def decide(
    candidates: Candidates,
    curation: Curation,
    duplicates: Duplicates,
    options: Prepare,
    seed: int,
    troubles: Troubles,
) -> Decision:
    """Assign a split to every candidate that is not excluded.

    Args:
        troubles: gets the errors of ``assign_splits``, with the first images at fault; all candidates
            are then excluded.
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
        candidates.sets.members,
        candidates.collection.target,
        candidates.words,
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
    excluded = dict(curation.outcomes)
    for index in kept[assigned < 0].tolist():
        excluded[index] = (
            "duplicate",
            f"a copy is in a later split, and stable splits move no {candidates.words.one}",
        )
    return Decision(splits, excluded, duplicates)
