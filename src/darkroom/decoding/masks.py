"""Decodes a mask file to the class of each pixel; values are never interpolated."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from darkroom.collection.mask_classes import MaskClasses
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.completeness import explain_failure, load_every_pixel
from darkroom.decoding.decode import (
    PixelLayout,
    is_animated,
    open_image,
    orientation_of,
    resize,
    turn_upright,
)
from darkroom.errors import counted
from darkroom.void import VOID

_SCALES = {"L;2": 85, "L;4": 17}
"""Pillow multiplies grey levels of two and four bits, so that white is 255."""

_LOSSY = ("JPEG", "AVIF")


def decode_mask(
    encoded: bytes, classes: MaskClasses, image_size: tuple[int, int], layout: PixelLayout
) -> NDArray[np.uint8]:
    """Decode a mask and bring it to the size of the prepared images.

    The mask is moved exactly like its image (``stretch``, ``crop`` or ``pad``), but each pixel of the
    result has the class of the closest pixel; padding is void.

    Args:
        encoded: the bytes of a PNG: grey or indexed with 1, 2, 4 or 8 bits, or RGB, if ``classes`` has
            colours. An indexed PNG then stands for the colours of its palette.
        classes: what the pixels' values mean.
        image_size: width and height of the image, as displayed.
        layout: the size of the result; the channels do not matter.

    Returns:
        uint8 ``(height, width)``, 0..len(classes.names) - 1 or ``VOID``.

    Raises:
        BadImage: the file cannot be decoded or is not such a PNG, its size is not that of the image, a
            value is not in ``classes``, or all pixels are void. Reasons begin with "mask".
    """
    return fit_mask(classes_of(open_mask(encoded, image_size), classes), layout)


def open_mask(encoded: bytes, image_size: tuple[int, int]) -> Image.Image:
    """Return every pixel of a PNG of the size of its image, turned upright, with the stored values.

    Raises:
        BadImage: the file cannot be decoded, is not such a PNG, or has another size.
    """
    try:
        image = _open_png(encoded)
    except BadImage as error:
        raise BadImage(error.outcome, f"mask: {error.reason}") from None
    if image.size != image_size:
        raise _unreadable(
            f"{image.width} x {image.height} pixels, but its image has {image_size[0]} x {image_size[1]}"
        )
    return image


def fit_mask(mask: NDArray[np.uint8], layout: PixelLayout) -> NDArray[np.uint8]:
    """Return a mask in the size of ``layout``, in which each pixel has the class of the closest one.

    Raises:
        BadImage: all pixels are void, before or after.
    """
    if (mask == VOID).all():
        raise _unreadable("every pixel is void")
    resized = np.array(resize(Image.fromarray(mask), layout, Image.Resampling.NEAREST, VOID))
    if (resized == VOID).all():
        size = f"{layout.height} x {layout.width}"
        raise _unreadable(
            f"every pixel is void that remains with prepare.resize {layout.resize} to {size}"
        )
    return resized


def _open_png(encoded: bytes) -> Image.Image:
    """Return every pixel of a PNG, turned upright, with the values that are stored."""
    file = io.BytesIO(encoded)
    image = open_image(file, encoded, tiff=True)
    if image.format in _LOSSY:
        raise BadImage(
            "unreadable",
            f"the file is {image.format}, which changes the values of pixels when it is compressed;"
            " save masks as PNG from their source",
        )
    if image.format != "PNG":
        raise BadImage("unreadable", f"the file is {image.format}; masks must be PNG")
    if is_animated(image):
        raise BadImage("unreadable", "the file is animated; a mask has one frame")
    depth = image.tile[0].args if image.tile else ""
    _check_mode(image, str(depth))
    try:
        load_every_pixel(image, file)
        upright = turn_upright(image, orientation_of(image))
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise exceptions of many types
        raise explain_failure(error, file) from None
    if depth in _SCALES:
        upright = upright.point(lambda value: value // _SCALES[depth])
    return upright


def _check_mode(image: ImageFile.ImageFile, depth: str) -> None:
    if image.mode.startswith("I") or depth.endswith(";16B"):
        raise BadImage("unreadable", "16 bits per channel; save masks with 8 bits")
    if image.mode in ("LA", "RGBA", "La", "RGBa") or (
        "transparency" in image.info and image.mode != "P"
    ):
        raise BadImage("unreadable", "has transparency, which stands for no class; save it without")
    if image.mode not in ("1", "L", "P", "RGB"):
        raise BadImage("unreadable", f"mode {image.mode}; masks are grey, indexed or RGB")


def _values(image: Image.Image, classes: MaskClasses) -> NDArray[np.int32]:
    """Return the index, or the colour as 0xRRGGBB, of each pixel: ``(height, width)``."""
    if classes.code == "index":
        if image.mode == "RGB":
            raise _unreadable(
                f"it has colours, but {classes.table} has indices; give the table the columns colour and"
                " name, or save masks as grey or indexed PNG"
                if classes.table
                else "it has colours; set data.classes_file to a table of colours and names"
            )
        return np.asarray(image).astype(np.int32)  # mode 1 has False and True
    if image.mode == "1":
        image = image.convert("L")
    levels = np.asarray(image.convert("RGB")).astype(np.int32)
    return levels[..., 0] << 16 | levels[..., 1] << 8 | levels[..., 2]


def classes_of(image: Image.Image, classes: MaskClasses) -> NDArray[np.uint8]:
    """Return the class of each pixel of ``open_mask``: ``(height, width)``.

    Raises:
        BadImage: the image has colours instead of indices, or a value has no class.
    """
    values = _values(image, classes)
    known = np.array(sorted(classes.values), np.int32)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    is_unknown = known[places] != values
    if is_unknown.any():
        raise _unreadable(_explain_unknown(values[is_unknown], classes))
    return np.array([classes.values[value] for value in known.tolist()], np.uint8)[places]


def _explain_unknown(unknown: NDArray[np.int32], classes: MaskClasses) -> str:
    found, counts = np.unique(unknown, return_counts=True)
    most = int(counts.argmax())
    value = classes.describe(int(found[most]))
    *several, last = map(classes.describe, sorted(classes.values))
    known = f"not in {classes.table}" if classes.table else f"not {', '.join(several)} or {last}"
    text = f"{counted(int(counts[most]), 'pixel')} of the {classes.code} {value}, which is {known}"
    if len(found) > 1:
        noun = "colour" if classes.code == "colour" else "value"
        text = f"{text}, and {counted(len(found) - 1, f'more unknown {noun}')}"
    if len(found) > 20:
        text += "; it was probably resized with interpolation, or once saved as JPEG"
    return text


def _unreadable(reason: str) -> BadImage:
    return BadImage("unreadable", f"mask: {reason}")
