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
        key = _key(path)
        if key is None:
            outcomes[path] = ("unlisted", f"in neither of the folders {IMAGES} and {MASKS}")
        else:
            (images if key[0] == IMAGES else masks)[key[1]].append(path)
    pairs: dict[str, str] = {}
    used: set[str] = set()
    for key, same in images.items():
        candidates = [path for ending in ENDINGS for path in masks.get(key + ending, ())]
        # 1_mask.png belongs to the image 1_mask.jpg if there is one
        own = masks.get(key) or [path for path in candidates if _key(path)[1] not in images]  # type: ignore[index]
        used |= {path for path in own}
        for path in same:
            if len(same) > 1:
                others = ", ".join(other for other in same if other != path)
                outcomes[path] = ("unreadable", f"has the same name as {others}, so as its mask")
            elif not own:
                outcomes[path] = ("missing", f"no mask {_expected(path)}")
            elif len(own) > 1:
                outcomes[path] = ("unreadable", f"has several masks: {', '.join(own)}")
            else:
                pairs[path] = own[0]
    taken = set(pairs.values())
    for path in (path for same in masks.values() for path in same):
        if path not in used:
            outcomes[path] = ("unlisted", f"a mask without an image {_expected(path)}")
        elif path not in taken:
            outcomes[path] = ("unlisted", "the mask of an image that is not used")
    return Pairs(pairs, outcomes)


def has_masks(paths: Iterable[str]) -> bool:
    """Return whether files are in folders of both names."""
    return {key[0] for path in paths if (key := _key(path)) is not None} == {IMAGES, MASKS}


def _key(path: str) -> tuple[str, str] | None:
    """Return the folder, ``images`` or ``masks``, and what image and mask have in common."""
    name = PurePosixPath(path)
    parts = list(name.with_suffix("").parts)
    for place, part in enumerate(parts[:-1]):
        if part.lower() in (IMAGES, MASKS):
            return part.lower(), "/".join([*parts[:place], *parts[place + 1 :]])
    return None


def _expected(path: str) -> str:
    """Return the path of the other file of a pair."""
    parts = path.split("/")
    place = next(i for i, part in enumerate(parts[:-1]) if part.lower() in (IMAGES, MASKS))
    is_image = parts[place].lower() == IMAGES
    parts[place] = MASKS if is_image else IMAGES
    suffix = ".png" if is_image else ".*"
    return str(PurePosixPath("/".join(parts)).with_suffix("")) + suffix
