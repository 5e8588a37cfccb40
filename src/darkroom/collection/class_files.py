"""Finds the files of each image's mask if each class has a file of its own."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from darkroom.collection.entries import MaskFile
from darkroom.collection.mask_classes import MaskClasses
from darkroom.collection.mask_pairs import (
    ENDINGS,
    IMAGES,
    MASKS,
    Found,
    Paths,
    Problem,
    images_of_part,
    place_of,
)

JOINTS = ("_", "__")
"""What may be between the image's name and the class in the name of a mask."""


def find_class_files(images: Paths, masks: Paths, classes: MaskClasses) -> Found:
    """Find masks that have one file per class.

    The part of the mask of ``images/a/1.jpg`` for the class ``road`` is ``masks/road/a/1.png`` or
    ``masks/a/road/1.png``, where one of ``ENDINGS`` or the class may follow the name, or it is
    ``masks/a/1_road.png`` or ``masks/a/1__road.png``. A class without a file is not in the image.

    An image has a problem if it has none of these files, or two for the same class, or one that is
    of no class or could be of several.
    """
    values = {file.text: value for value, file in enumerate(classes.files) if file.text}
    own: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    problems: dict[str, Problem] = {}
    strays: dict[str, str] = {}
    for key, same in masks.items():
        meant = _meant(key, values, images)
        if len(meant) == 1:
            [(value, image)] = meant.items()
            own[image][value] += same
            continue
        for path in same:
            owners = [image for image in meant.values() or images_of_part(path) if image in images]
            problem = _explain_unclear(path, meant, classes)
            problems |= dict.fromkeys(owners, ("unreadable", problem))
            if not owners:
                strays[path] = "a mask without an image"
    found: dict[str, tuple[MaskFile, ...]] = {}
    for key in images.keys() - problems.keys():
        files = sorted(own[key].items())
        several = [(value, paths) for value, paths in files if len(paths) > 1]
        if not files:
            problems[key] = ("missing", _explain_missing(images[key][0], next(iter(values))))
        elif several:
            value, paths = several[0]
            reason = f"has several masks of {classes.describe(value)}: {', '.join(paths)}"
            problems[key] = ("unreadable", reason)
        else:
            found[key] = tuple(MaskFile(path, value) for value, [path] in files)
    return Found(found, problems, strays)


def _meant(key: str, values: Mapping[str, int], images: Paths) -> dict[int, str]:
    """Return the classes that a mask could be of, with the key of the image, the longest if several."""
    meant: dict[int, str] = {}
    for value, image in _readings(key, values):
        if image in images and len(image) > len(meant.get(value, "")):
            meant[value] = image
    return meant


def _readings(key: str, values: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Yield every class and key of an image that the key of a mask can be read as."""
    *folders, name = key.split("/")
    for position, folder in enumerate(folders):
        if folder in values:
            rest = [*folders[:position], *folders[position + 1 :]]
            for ending in (*ENDINGS, *(joint + folder for joint in JOINTS)):
                if name.endswith(ending):
                    yield values[folder], "/".join([*rest, name.removesuffix(ending)])
    for joint in JOINTS:
        for end in (end for end in range(1, len(name)) if name.startswith(joint, end)):
            value = values.get(name[end + len(joint) :])
            if value is not None:
                yield value, "/".join([*folders, name[:end]])


def _explain_unclear(path: str, meant: Mapping[int, str], classes: MaskClasses) -> str:
    if meant:
        among = " or ".join(f"{classes.describe(value)} of {image}" for value, image in meant.items())
        return f"{path} could be {among}; rename it"
    return (
        f"{path} is of no class in {classes.table}; add a row for it, with the name of data.void if it"
        " does not count, or move it out of the folder"
    )


def _explain_missing(image: str, text: str) -> str:
    place = place_of(image)
    assert place is not None
    assert place.folder == IMAGES
    in_folder = "/".join([*place.before, MASKS, text, *place.after])
    in_name = "/".join([*place.before, MASKS, *place.after])
    return f"no mask of any class, such as {in_folder}.png or {in_name}_{text}.png"
