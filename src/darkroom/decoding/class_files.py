"""Decodes a mask that has one file per class: black where the class is not, white where it is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.collection.mask_classes import MaskClasses, binary_classes
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout
from darkroom.decoding.masks import classes_of, fit_mask, open_mask
from darkroom.errors import counted

_NOBODY = -1

_MARKS = binary_classes()

_COLOURS = MaskClasses(("background", "object"), "colour", {0: 0, 0xFFFFFF: 1})


class EncodedMask(NamedTuple):
    """A file of a mask."""

    path: str
    value: int
    """The index in ``MaskClasses.files``."""
    content: bytes


def decode_class_files(
    files: Sequence[EncodedMask],
    classes: MaskClasses,
    image_size: tuple[int, int],
    layout: PixelLayout,
) -> NDArray[np.uint8]:
    """Decode the files of a mask, one per class, and join them.

    A pixel gets the class of the file that marks it. Where several do, it gets that of the highest
    layer. Pixels that no file marks get the class whose file has no name.

    Args:
        files: PNG files with 0, and 1 or 255 where the class is, grey or indexed; or black and white
            in RGB.
        classes: the classes and their files.
        image_size: width and height of the image, as displayed.
        layout: the size of the result; the channels do not matter.

    Returns:
        uint8 ``(height, width)``, 0..len(classes.names) - 1 or ``VOID``.

    Raises:
        BadImage: as ``decode_mask``, or two files of the same layer mark the same pixel, or no file
            marks a pixel and no class is for such pixels. Reasons begin with "mask".
    """
    layers = np.array([*(file.layer for file in classes.files), -1])  # the last one for _NOBODY
    owners = np.full(image_size[::-1], _NOBODY, np.int32)
    for file in sorted(files, key=lambda file: (layers[file.value], file.value)):
        is_marked = _decode_marks(file, image_size)
        is_twice = is_marked & (layers[owners] == layers[file.value])
        if is_twice.any():
            raise _bad(_explain_overlap(owners[is_twice], file, files, classes))
        owners[is_marked] = file.value
    is_left = owners == _NOBODY
    if is_left.any():
        rest = [value for value, file in enumerate(classes.files) if not file.text]
        if not rest:
            raise _bad(
                f"no file marks {counted(int(is_left.sum()), 'pixel')}; give such pixels a class, or"
                f" data.void, by a row of {classes.table} whose file is empty"
            )
        owners[is_left] = rest[0]
    codes = np.array([classes.values[value] for value in range(len(classes.files))], np.uint8)
    return fit_mask(codes[owners], layout)


def _decode_marks(file: EncodedMask, image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where a file marks its class: ``(height, width)``."""
    try:
        image = open_mask(file.content, image_size)
        return classes_of(image, _COLOURS if image.mode == "RGB" else _MARKS) == 1
    except BadImage as error:
        reason = error.reason.removeprefix("mask: ")
        raise BadImage(error.outcome, f"mask: {file.path}: {reason}") from None


def _explain_overlap(
    owners: NDArray[np.int32], file: EncodedMask, files: Sequence[EncodedMask], classes: MaskClasses
) -> str:
    others, counts = np.unique(owners, return_counts=True)
    most = int(counts.argmax())
    other = next(other.path for other in files if other.value == others[most])
    return (
        f"{other} and {file.path} both mark {counted(int(counts[most]), 'pixel')}; correct one of them,"
        f" or say which class lies above the other by a column layer in {classes.table}"
    )


def _bad(reason: str) -> BadImage:
    return BadImage("unreadable", f"mask: {reason}")
