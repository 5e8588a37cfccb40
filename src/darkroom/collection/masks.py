"""Finds the mask of each image: a file of the same name in a folder ``masks`` beside ``images``."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from darkroom.collection.entries import Outcome

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
