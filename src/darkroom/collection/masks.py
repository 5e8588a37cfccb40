"""Gives images their masks: by names in a folder ``masks``, or by a column of the manifest."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from darkroom.collection.class_files import find_class_files
from darkroom.collection.entries import BAD, Entry, Split, split_called
from darkroom.collection.mask_classes import Code, MaskClasses
from darkroom.collection.mask_pairs import (
    MASKS,
    Finder,
    Pairs,
    Problem,
    find_one_file,
    pair,
    place_of,
)
from darkroom.collection.sidecars import is_sidecar
from darkroom.errors import UserError, did_you_mean

FINDERS: dict[Code, Finder] = {
    "index": find_one_file,
    "colour": find_one_file,
    "file": find_class_files,
}
"""How masks are found, by what the table of classes says."""


def pair_masks(paths: Iterable[str], classes: MaskClasses) -> Pairs:
    """Pair images and masks by their paths; see ``mask_pairs.pair``."""
    return pair(paths, FINDERS[classes.code], classes)


def label_by_masks(name: str, entries: Iterable[Entry], classes: MaskClasses) -> Iterator[Entry]:
    """Yield entries of files in folders ``images`` and ``masks``; images name their masks.

    Args:
        name: name of the collection, for messages.
        classes: the classes of the masks, whose table is not an image.

    Raises:
        UserError: some images are in split folders and others are not, or no folder is for train.
    """
    entries = list(entries)
    pairs = pair_masks((entry.path for entry in entries if _may_be_paired(entry)), classes)
    splits = _splits(name, [*pairs.masks])
    for entry in entries:
        path = entry.path
        if path in pairs.masks:
            yield replace(entry, label="", split=splits[path], mask_files=pairs.masks[path])
        elif entry.outcome is not None or path not in pairs.outcomes:
            yield entry
        elif path == classes.table:
            yield replace(entry, outcome="unlisted", reason="the classes of the masks")
        else:
            outcome, reason = pairs.outcomes[path]
            if outcome == "missing" and is_sidecar(path):
                outcome, reason = "sidecar", ""
            label = None if outcome in ("unlisted", "sidecar") else ""
            yield replace(entry, label=label, outcome=outcome, reason=reason)


def _may_be_paired(entry: Entry) -> bool:
    """Return whether a file is an image or a mask; a bad mask, such as a dead link, is one."""
    if entry.outcome in BAD:
        place = place_of(entry.path)
        return place is not None and place.folder == MASKS
    return entry.outcome is None


def _splits(name: str, paths: list[str]) -> dict[str, Split | None]:
    """Return the split of each image: that of the first folder above it with the name of a split."""
    splits: dict[str, Split | None] = {
        path: next(filter(None, map(split_called, PurePosixPath(path).parts[:-1])), None)
        for path in paths
    }
    given = set(splits.values()) - {None}
    if not given:
        return splits
    if "train" not in given:
        folders = ", ".join(sorted(split for split in given if split))
        raise UserError(f"data.path: {name} contains images for {folders}, but no folder train")
    if outside := [path for path, split in splits.items() if split is None]:
        inside = next(path for path, split in splits.items() if split is not None)
        raise UserError(
            f"data.path: {name} contains images in split folders, such as {inside}, and outside of them,"
            f" such as {outside[0]}; put all into folders for train, val and test, or none"
        )
    return splits


def with_masks(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the images that name masks with the place of these, and all files that are not such masks.

    An image whose mask cannot be used gets an outcome that stops ``prepare``.
    """
    entries = list(entries)
    files = {entry.path: entry for entry in entries}
    owners: dict[str, str] = {}
    for entry in entries:
        for file in entry.mask_files or () if entry.outcome is None else ():
            owners[file.path] = min(entry.path, owners.get(file.path, entry.path))
    for entry in entries:
        if entry.mask_files is None or entry.outcome is not None:
            if entry.path not in owners:
                yield entry
            continue
        problems = (_explain_mask(entry, file.path, owners, files) for file in entry.mask_files)
        problem = next(filter(None, problems), None)
        if not entry.mask_files:
            problem = ("missing", "none in the manifest")
        if problem:
            outcome, reason = problem
            yield replace(entry, outcome=outcome, reason=f"mask: {reason}", mask_files=None)
        else:
            placed = [
                file._replace(offset=files[file.path].offset, size=files[file.path].size)
                for file in entry.mask_files
            ]
            yield replace(entry, mask_files=tuple(placed))


def _explain_mask(
    entry: Entry, mask: str, owners: Mapping[str, str], files: Mapping[str, Entry]
) -> Problem | None:
    """Return outcome and reason of an image of whose mask a file cannot be used; None: it can."""
    found = files.get(mask)
    if found is None:
        if posixpath.isabs(mask) or mask.split("/")[0] == "..":
            return "outside", f"{mask} leads out of the folder that paths are relative to"
        return "missing", f"{mask} is listed, but missing{did_you_mean(mask, _alike(mask, files))}"
    if mask == entry.path:
        return "unreadable", "the manifest names the image itself"
    if owners[mask] != entry.path:
        return "unreadable", f"{mask} is also the mask of {owners[mask]}"
    if found.outcome not in (None, "unlisted"):
        return "unreadable", f"{mask} is {found.outcome}"
    if found.mask_files is not None:
        return "unreadable", f"{mask} is also listed as an image"
    return None


def _alike(mask: str, files: Mapping[str, Entry]) -> list[str]:
    """Return the files in the folder of a mask, or all if there are none."""
    folder = posixpath.dirname(mask)
    return [path for path in files if posixpath.dirname(path) == folder][:1000] or [*files][:1000]
