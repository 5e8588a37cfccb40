"""Finds the mask of each image: by its name in a folder ``masks``, or by a column of the manifest."""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.entries import Entry, Outcome, Split, split_called
from darkroom.collection.sidecars import is_sidecar
from darkroom.errors import UserError, did_you_mean

IMAGES, MASKS = "images", "masks"
"""Names of the folders, in any case, at any depth: ``images/train/1.jpg`` or ``train/images/1.jpg``."""

ENDINGS = ("", "_mask", "_label", "_labels", "_seg", "_L")
"""What may follow the image's name in that of its mask, as in ``1_mask.png``."""


class Pairs(NamedTuple):
    """Which images have masks, and what happens to the other files."""

    masks: dict[str, str]
    """The path of each image's mask."""
    outcomes: dict[str, tuple[Outcome, str]]
    """Outcome and reason of the files that are not used, by path."""


def pair_masks(paths: Iterable[str]) -> Pairs:
    """Pair images and masks by their paths.

    The mask of ``images/train/1.jpg`` is ``masks/train/1.png``, or, with one of ``ENDINGS``,
    ``masks/train/1_mask.png``. Folders of splits or drives may be above or below ``images``.

    Args:
        paths: all files of the collection, without hidden ones.

    Returns:
        Every file is in exactly one place: an image in ``masks``, a mask among its values, or any other
        file in ``outcomes``. An image without a mask, with several masks, or with the mask of another
        image has an outcome that stops ``prepare``; a mask without an image, or a file outside of both
        folders, is unlisted.
    """
    images: defaultdict[str, list[str]] = defaultdict(list)
    masks: defaultdict[str, list[str]] = defaultdict(list)
    outcomes: dict[str, tuple[Outcome, str]] = {}
    for path in sorted(paths):
        place = _place(path)
        if place is None:
            outcomes[path] = ("unlisted", f"in neither of the folders {IMAGES} and {MASKS}")
        else:
            (images if place.folder == IMAGES else masks)[place.key].append(path)
    pairs: dict[str, str] = {}
    found: set[str] = set()
    for key, same in images.items():
        # 1_mask.png belongs to the image 1_mask.jpg if there is one
        named = [key + ending for ending in ENDINGS if not ending or key + ending not in images]
        own = masks.get(key) or [path for name in named for path in masks.get(name, ())]
        found.update(own)
        for path in same:
            if len(same) > 1:
                others = ", ".join(other for other in same if other != path)
                outcomes[path] = ("unreadable", f"has the same name as {others}, so as its mask")
            elif not own:
                outcomes[path] = ("missing", f"no mask {_opposite(path)}")
            elif len(own) > 1:
                outcomes[path] = ("unreadable", f"has several masks: {', '.join(own)}")
            else:
                pairs[path] = own[0]
    taken = set(pairs.values())
    for path in (path for same in masks.values() for path in same):
        if path not in found:
            outcomes[path] = ("unlisted", f"a mask without an image {_opposite(path)}")
        elif path not in taken:
            outcomes[path] = ("unlisted", "the mask of an image that is not used")
    return Pairs(pairs, outcomes)


def label_by_masks(name: str, entries: Iterable[Entry], classes_file: str | None) -> Iterator[Entry]:
    """Yield entries of files in folders ``images`` and ``masks``; images name their masks.

    Args:
        name: name of the collection, for messages.
        classes_file: the table of classes, which is no image.

    Raises:
        UserError: some images are in split folders and others are not, or no folder is for train.
    """
    entries = list(entries)
    pairs = pair_masks(entry.path for entry in entries if entry.outcome is None)
    splits = _splits(name, [*pairs.masks])
    for entry in entries:
        path = entry.path
        if path in pairs.masks:
            yield replace(entry, label="", split=splits[path], mask=pairs.masks[path])
        elif entry.outcome is not None or path not in pairs.outcomes:
            yield entry
        elif path == classes_file:
            yield replace(entry, outcome="unlisted", reason="the classes of the masks")
        else:
            outcome, reason = pairs.outcomes[path]
            if outcome == "missing" and is_sidecar(path):
                outcome, reason = "sidecar", ""
            label = None if outcome in ("unlisted", "sidecar") else ""
            yield replace(entry, label=label, outcome=outcome, reason=reason)


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
        if entry.mask and entry.outcome is None:
            owners[entry.mask] = min(entry.path, owners.get(entry.mask, entry.path))
    for entry in entries:
        if entry.mask is None or entry.outcome is not None:
            if entry.path not in owners:
                yield entry
            continue
        found = files.get(entry.mask)
        if problem := _explain_mask(entry, found, owners, files):
            outcome, reason = problem
            yield replace(entry, outcome=outcome, reason=f"mask: {reason}", mask=None)
        else:
            assert found is not None
            yield replace(entry, mask_offset=found.offset, mask_size=found.size)


def _explain_mask(
    entry: Entry, found: Entry | None, owners: dict[str, str], files: dict[str, Entry]
) -> tuple[Outcome, str] | None:
    """Return outcome and reason of an image whose mask cannot be used; None: it can."""
    mask = entry.mask or ""
    if not mask:
        return "missing", "none in the manifest"
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
    if found.mask is not None:
        return "unreadable", f"{mask} is also listed as an image"
    return None


def _alike(mask: str, files: dict[str, Entry]) -> list[str]:
    """Return the files in the folder of a mask, or all if there are none."""
    folder = posixpath.dirname(mask)
    return [path for path in files if posixpath.dirname(path) == folder][:1000] or [*files][:1000]


def may_have_masks(paths: pa.ChunkedArray) -> bool:
    """Return whether files are in folders of both names; fast, but ``has_masks`` is exact."""
    folders = (f"(?i)(^|/){folder}/" for folder in (IMAGES, MASKS))
    return all(pc.any(pc.match_substring_regex(paths, folder)).as_py() for folder in folders)


def has_masks(paths: Iterable[str]) -> bool:
    """Return whether files are in folders of both names."""
    return {place.folder for path in paths if (place := _place(path))} == {IMAGES, MASKS}


class _Place(NamedTuple):
    folder: str
    """``images`` or ``masks``."""
    key: str
    """What the paths of an image and its mask have in common."""
    opposite: str
    """The path of the other file of the pair."""


def _place(path: str) -> _Place | None:
    """Return where a file is; None: in neither folder."""
    name = PurePosixPath(path)
    *folders, stem = name.with_suffix("").parts
    for position, part in enumerate(folders):
        folder = part.lower()
        if folder in (IMAGES, MASKS):
            before, after = folders[:position], [*folders[position + 1 :], stem]
            other, suffix = (MASKS, ".png") if folder == IMAGES else (IMAGES, ".*")
            opposite = "/".join([*before, other, *after]) + suffix
            return _Place(folder, "/".join([*before, *after]), opposite)
    return None


def _opposite(path: str) -> str:
    place = _place(path)
    assert place is not None
    return place.opposite
