"""Decides which images are excluded or stay together: duplicates, conflicting labels, leaks."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.entries import SPLITS, Outcome
from darkroom.collection.trouble import Trouble, Troubles
from darkroom.errors import counted
from darkroom.preparation.candidates import Candidates
from darkroom.preparation.duplicates import exact_duplicates, group_of, near_duplicates

SHOWN = 5
"""Maximum number of pairs in a message; the file it names lists all."""

LEAST_DIFFERENCE = 1e-4
"""Minimum difference of images whose pixels are not the same."""


@dataclass(frozen=True)
class Duplicates:
    """Pairs of candidates with the same or nearly the same pixels, by index."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """Larger than ``first``."""
    difference: NDArray[np.float64]
    """Largest local difference as a fraction of the range; 0 if the pixels are the same."""
    num_crowded: int = 0
    """Number of images that resemble too many others to be compared with all of them."""
    num_look_alikes: int = 0
    """Number of pairs that agree in coarse cells, but differ in detail."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Curation:
    """What to do with the candidates."""

    outcomes: dict[int, tuple[Outcome, str]]
    """Excluded candidates, with outcome and reason."""
    groups: NDArray[np.int64]
    """Candidates with the same number must get the same split; -1: excluded."""


def find_duplicates(
    images: Candidates, threshold: float | None, advance: Callable[[int], None]
) -> Duplicates:
    """Return pairs of images with the same prepared pixels, or nearly the same up to ``threshold``.

    Of images with the same pixels, only the first is compared with others.

    Args:
        threshold: as in ``near_duplicates``; None: only the same pixels count.
    """
    exact = exact_duplicates(images.digests)
    pairs, difference, num_crowded, num_look_alikes = exact, np.zeros(len(exact)), 0, 0
    if threshold is not None:
        is_copy = np.zeros(len(images), bool)
        is_copy[exact[:, 1]] = True
        kept = np.flatnonzero(~is_copy)
        near = near_duplicates(
            images.hashes[kept], lambda indices: images.pixels(kept[indices]), threshold, advance
        )
        pairs = np.concatenate([pairs, kept[near.pairs]])
        # 0 is reserved for the same pixels; a change of the overall brightness alone would give 0 too
        difference = np.concatenate([difference, np.maximum(near.difference, LEAST_DIFFERENCE)])
        num_crowded, num_look_alikes = near.num_crowded, near.num_look_alikes
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Duplicates(pairs[order, 0], pairs[order, 1], difference[order], num_crowded, num_look_alikes)


def curate(
    images: Candidates,
    duplicates: Duplicates,
    policy: Literal["group", "drop", "error", "keep"],
    on_conflict: Literal["error", "drop", "keep"],
    listed: Path,
    troubles: Troubles,
) -> Curation:
    """Decide which images are excluded, and which must stay in one split.

    Args:
        policy: ``prepare.duplicates``.
        on_conflict: what to do with the same pixels under several labels; keep: it is not a mistake.
        listed: CSV file that gets all pairs, even if there are troubles.
        troubles: gets conflicting labels and duplicates if these are errors, and duplicates and groups
            in several given splits, which are then not kept together.
    """
    _write_pairs(images, duplicates, listed)
    pairs = np.stack([duplicates.first, duplicates.second], axis=1)
    same_pixels = duplicates.difference == 0
    outcomes: dict[int, tuple[Outcome, str]] = {}
    words = images.words

    exact = group_of(len(images), pairs[same_pixels])
    is_conflict = same_pixels & ~images.agree(*pairs.T) & (on_conflict != "keep")
    is_conflicting = np.isin(exact, exact[pairs[is_conflict, 0]])
    if is_conflict.any() and on_conflict == "error":
        message = (
            f"data.path: {counted(int(is_conflict.sum()), 'pair')} of {words.several} with the same"
            f" {words.content} and different labels; all are listed in {listed}:"
        )
        remedy = (
            f"Correct the labels, or set prepare.on_conflict: drop to use none of these {words.several}"
        )
        title = f"Same {words.content}, different labels"
        troubles.add(_about_pairs(title, message, remedy, images, duplicates, is_conflict))
    elif on_conflict == "drop":
        for index in np.flatnonzero(is_conflicting).tolist():
            outcomes[index] = ("conflicting label", f"the same {words.content} have several labels")

    is_in_question: NDArray[np.bool_] = ~np.any(is_conflicting[pairs], axis=1)
    if is_in_question.any() and policy == "error":
        message = (
            f"data.path: {counted(int(is_in_question.sum()), 'pair')} of {words.several} with the same"
            f" or nearly the same {words.content}; all are listed in {listed}:"
        )
        remedy = (
            f"Remove one {words.one} of each, or set prepare.duplicates to group (kept in one split) or"
            " drop"
        )
        troubles.add(_about_pairs("Duplicates", message, remedy, images, duplicates, is_in_question))
    pairs = pairs[is_in_question]
    if policy == "drop":
        group = group_of(len(images), pairs)
        compared = set(map(tuple, pairs.tolist()))
        for index, kept in _copies(group, images.given):
            if exact[index] == exact[kept]:
                relation = f"the same {words.content} as"
            elif (min(index, kept), max(index, kept)) in compared:
                relation = f"nearly the same {words.content} as"
            else:
                relation = f"through other {words.several}, nearly the same {words.content} as"
            outcomes[index] = ("duplicate", f"{relation} {images.path(kept)}")
    together = is_in_question if policy == "group" else np.zeros_like(is_in_question)
    is_out = np.zeros(len(images), bool)
    is_out[list(outcomes)] = True
    groups = _groups_within_splits(images, duplicates, together, is_out, listed, troubles)
    groups[is_out] = -1
    return Curation(outcomes, groups)


def _leak(
    images: Candidates, duplicates: Duplicates, chosen: NDArray[np.bool_], listed: Path
) -> Trouble:
    num_near = int((duplicates.difference[chosen] > 0).sum())
    remedy = (
        "Set prepare.duplicates: drop to exclude the copies in the training split, or keep to use the "
        "splits as they are"
    )
    if num_near:
        remedy += (
            f"; {num_near:,} {'is' if num_near == 1 else 'are'} only nearly the same, and with "
            f"prepare.near_duplicates: null only the same {images.words.content} count"
        )
    return _about_pairs(
        "Duplicates in different given splits",
        f"data.path: {counted(int(chosen.sum()), 'pair')} of {images.words.several} with the same or"
        " nearly"
        f" the same {images.words.content} in different given splits, so the test would leak; all are"
        f" listed in {listed}:",
        remedy,
        images,
        duplicates,
        chosen,
    )


def _about_pairs(
    title: str,
    what: str,
    remedy: str,
    images: Candidates,
    duplicates: Duplicates,
    chosen: NDArray[np.bool_],
) -> Trouble:
    pairs = np.stack([duplicates.first[chosen], duplicates.second[chosen]], axis=1)
    message = f"{what}\n{_shown(images, pairs)}\n{remedy}"
    return Trouble(title, message, pairs, duplicates.difference[chosen])


def _copies(group: NDArray[np.int64], given: NDArray[np.int8]) -> Iterator[tuple[int, int]]:
    """Yield each dropped image with the kept image of its group.

    The first image in the last of the given splits is kept: dropping copies of test images from train
    closes a leak, while the opposite would change the test.
    """
    order = np.lexsort((np.arange(len(group)), -given, group))
    _, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        kept, *copies = order[start : start + size].tolist()
        yield from ((copy, kept) for copy in copies)


def _pairs_of_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs that link each image of a given group to the first image of the group."""
    members = np.flatnonzero(groups >= 0)
    _, firsts, inverse = np.unique(groups[members], return_index=True, return_inverse=True)
    return np.stack([members[firsts][inverse], members], axis=1)


def _groups_within_splits(
    images: Candidates,
    duplicates: Duplicates,
    together: NDArray[np.bool_],
    is_out: NDArray[np.bool_],
    listed: Path,
    troubles: Troubles,
) -> NDArray[np.int64]:
    """Return the groups formed by the pairs chosen by ``together`` and the given groups.

    If a group has members in several given splits, it is added to the troubles and every image is its
    own group.
    """
    pairs = np.stack([duplicates.first, duplicates.second], axis=1)
    of_collection = _pairs_of_groups(images.groups)
    torn = _leaking(group_of(len(images), of_collection), images.given, is_out)
    groups = group_of(len(images), np.concatenate([pairs[together], of_collection]))
    leaking = _leaking(groups, images.given, is_out)
    # a given group in several splits says nothing about copies
    by_pairs = (
        _leaking(group_of(len(images), pairs[together]), images.given, is_out) if torn.any() else leaking
    )
    first, second = pairs.T
    between = together & by_pairs[first] & (images.given[first] != images.given[second])
    if between.any():
        troubles.add(_leak(images, duplicates, between, listed))
    if torn.any() or (leaking.any() and not between.any()):
        at_fault = torn if torn.any() else leaking
        index = int(np.flatnonzero(at_fault & (images.groups >= 0))[0])
        message = (
            f"data.path: the group {images.group_names[images.groups[index]]!r} (of data.group_column or"
            f" data.group_pattern) has {images.words.several} in several given splits"
            f" ({counted(int(at_fault.sum()), images.words.one)} in such groups); give each group one"
            " split"
        )
        troubles.add(Trouble("Groups in several given splits", message))
    return np.arange(len(images)) if leaking.any() else groups


def _leaking(
    groups: NDArray[np.int64], given: NDArray[np.int8], is_out: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which images are in a group with members in several given splits."""
    chosen = np.flatnonzero(~is_out & (given >= 0))
    by_split = np.unique(np.stack([groups[chosen], given[chosen]], axis=1), axis=0)
    ids, num_splits = np.unique(by_split[:, 0], return_counts=True)
    return np.isin(groups, ids[num_splits > 1]) & ~is_out


def _shown(images: Candidates, pairs: NDArray[np.int64]) -> str:
    def one(index: int) -> str:
        split = images.given[index]
        about = (images.label(index) or "no label") + (f", {SPLITS[split]}" if split >= 0 else "")
        return f"{images.path(index)} ({about})"

    lines = [f"  {one(first)} and {one(second)}" for first, second in pairs[:SHOWN].tolist()]
    return "\n".join(lines + ["  ..."] * (len(pairs) > SHOWN))


def _write_pairs(images: Candidates, duplicates: Duplicates, listed: Path) -> None:
    listed.parent.mkdir(parents=True, exist_ok=True)
    with listed.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["first", "second", "first_label", "second_label", "difference"])
        columns = (duplicates.first.tolist(), duplicates.second.tolist(), duplicates.difference.tolist())
        for first, second, difference in zip(*columns, strict=True):
            labels = [images.label(index) for index in (first, second)]
            table.writerow([images.path(first), images.path(second), *labels, f"{difference:.4f}"])
