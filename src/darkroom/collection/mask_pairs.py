"""Pairs the files in folders ``images`` and ``masks`` by their names."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.collection.entries import MaskFile, Outcome
from darkroom.collection.mask_classes import MaskClasses

IMAGES, MASKS = "images", "masks"
"""Names of the folders, in any case, at any depth: ``images/train/1.jpg`` or ``train/images/1.jpg``."""

ENDINGS = ("", "_mask", "_label", "_labels", "_seg", "_L")
"""What may follow the image's name in that of its mask, as in ``1_mask.png``."""

Problem = tuple[Outcome, str]
"""Outcome and reason of a file that is not used."""

Paths = Mapping[str, list[str]]
"""Paths of images or masks by their key; see ``Place``."""


class Pairs(NamedTuple):
    """Which images have masks, and what happens to the other files."""

    masks: dict[str, tuple[MaskFile, ...]]
    """The mask of each image, by its path."""
    outcomes: dict[str, Problem]
    """Outcome and reason of the files that are not used, by path."""


class Found(NamedTuple):
    """The masks of images, by the keys of these. Every image has a mask or a problem."""

    masks: dict[str, tuple[MaskFile, ...]]
    problems: dict[str, Problem]
    strays: dict[str, str]
    """Why masks belong to no image, by path."""


Finder = Callable[[Paths, Paths, MaskClasses], Found]
"""Finds the masks of images, from the paths of images and of masks."""


class Place(NamedTuple):
    """Where a file is."""

    folder: str
    """``images`` or ``masks``."""
    before: list[str]
    """The folders above it."""
    after: list[str]
    """The folders below it, and the file's name without suffix."""

    @property
    def key(self) -> str:
        """What the paths of an image and its mask have in common."""
        return "/".join([*self.before, *self.after])

    @property
    def opposite(self) -> str:
        """The path of the other file of the pair."""
        other, suffix = (MASKS, ".png") if self.folder == IMAGES else (IMAGES, ".*")
        return "/".join([*self.before, other, *self.after]) + suffix


def place_of(path: str) -> Place | None:
    """Return where a file is; None: in neither folder."""
    name = PurePosixPath(path)
    *folders, stem = name.with_suffix("").parts
    for position, part in enumerate(folders):
        if part.lower() in (IMAGES, MASKS):
            return Place(part.lower(), folders[:position], [*folders[position + 1 :], stem])
    return None


def opposite(path: str) -> str:
    """Return the path of the mask of an image, or of the image of a mask."""
    place = place_of(path)
    assert place is not None
    return place.opposite


def may_have_masks(paths: pa.ChunkedArray) -> bool:
    """Return whether files are in folders of both names; fast, but ``has_masks`` is exact."""
    folders = (f"(?i)(^|/){folder}/" for folder in (IMAGES, MASKS))
    return all(pc.any(pc.match_substring_regex(paths, folder)).as_py() for folder in folders)


def has_masks(paths: Iterable[str]) -> bool:
    """Return whether files are in folders of both names."""
    return {place.folder for path in paths if (place := place_of(path))} == {IMAGES, MASKS}


def pair(paths: Iterable[str], find: Finder, classes: MaskClasses) -> Pairs:
    """Pair images and masks by their paths.

    Args:
        paths: all files of the collection, without hidden ones.
        find: finds the masks of images.
        classes: the classes of the masks.

    Returns:
        Every file is in exactly one place: an image in ``masks``, a mask among its values, or any other
        file in ``outcomes``. An image without a mask, or with files that cannot be one, has an outcome
        that stops ``prepare``; a mask without an image, or a file outside of both folders, is unlisted.
    """
    images: defaultdict[str, list[str]] = defaultdict(list)
    masks: defaultdict[str, list[str]] = defaultdict(list)
    outcomes: dict[str, Problem] = {}
    for path in sorted(paths):
        place = place_of(path)
        if place is None:
            outcomes[path] = ("unlisted", f"in neither of the folders {IMAGES} and {MASKS}")
        else:
            (images if place.folder == IMAGES else masks)[place.key].append(path)
    found = find(images, masks, classes)
    pairs: dict[str, tuple[MaskFile, ...]] = {}
    for key, same in images.items():
        for path in same:
            if len(same) > 1:
                others = ", ".join(other for other in same if other != path)
                outcomes[path] = ("unreadable", f"has the same name as {others}, so as its mask")
            elif key in found.problems:
                outcomes[path] = found.problems[key]
            else:
                pairs[path] = found.masks[key]
    taken = {file.path for files in pairs.values() for file in files}
    for path in (path for same in masks.values() for path in same):
        if path not in taken:
            reason = found.strays.get(path, "the mask of an image that is not used")
            outcomes[path] = ("unlisted", reason)
    return Pairs(pairs, outcomes)


def find_one_file(images: Paths, masks: Paths, classes: MaskClasses) -> Found:
    """Find masks of one file each.

    The mask of ``images/train/1.jpg`` is ``masks/train/1.png``, or, with one of ``ENDINGS``,
    ``masks/train/1_mask.png``. Folders of splits or drives may be above or below ``images``.
    """
    found = Found({}, {}, {})
    owned: set[str] = set()
    for key in images:
        # 1_mask.png belongs to the image 1_mask.jpg if there is one
        named = [key + ending for ending in ENDINGS if not ending or key + ending not in images]
        own = masks.get(key) or [path for name in named for path in masks.get(name, ())]
        owned.update(own)
        if len(own) == 1:
            found.masks[key] = (MaskFile(own[0]),)
        elif own:
            found.problems[key] = ("unreadable", f"has several masks: {', '.join(own)}")
    strays = [path for same in masks.values() for path in same if path not in owned]
    found.strays.update((path, f"a mask without an image {opposite(path)}") for path in strays)
    missing = images.keys() - found.masks.keys() - found.problems.keys()
    of_class = {image: path for path in reversed(strays) for image in images_of_part(path) if missing}
    for key in missing:
        reason = f"no mask {opposite(images[key][0])}"
        if key in of_class:
            reason += (
                f"; if {of_class[key]} is its mask for one class, give data.classes_file the columns"
                " file and name"
            )
        found.problems[key] = ("missing", reason)
    return found


def images_of_part(path: str) -> Iterator[str]:
    """Yield the keys of the images that a mask could be a part of, whatever its class is called.

    These are the mask's own key without one of its folders, and without the end of its name from a
    ``_`` on.
    """
    place = place_of(path)
    assert place is not None
    *folders, name = [*place.before, *place.after]
    names = [name, *(name[:end] for end in range(1, len(name)) if name[end] == "_")]
    for left_out in range(len(folders) + 1):
        kept = [*folders[:left_out], *folders[left_out + 1 :]]
        yield from ("/".join([*kept, stem]) for stem in names)
