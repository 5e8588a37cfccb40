"""The colours of classes in pictures of masks, and in PNG files of masks."""

import numpy as np
from numpy.typing import NDArray

from darkroom.void import VOID

OPACITY = 0.55
"""Share of the class's colour in a pixel; the rest is the image in grey."""


def palette() -> NDArray[np.uint8]:
    """Return the colours of the classes 0..254 and of ``VOID``, as in the masks of PASCAL VOC.

    The bits of a class go to the highest bits of red, green and blue in turn, so that classes with
    close numbers have different colours.

    Returns:
        uint8 ``(256, 3)``: red, green, blue; the first class is black, ``VOID`` nearly white.
    """
    classes = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (classes >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    colours[VOID] = (224, 224, 192)
    return colours


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image in grey under the colours of a mask.

    Args:
        image: uint8 ``(height, width, channels)``.
        mask: uint8 ``(height, width)``; void pixels show the image.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    grey = image.mean(axis=2, keepdims=True)
    share = np.where(mask == VOID, 0, OPACITY)[..., None]
    return np.rint((1 - share) * grey + share * palette()[mask]).astype(np.uint8)


def mark(
    image: NDArray[np.uint8], is_marked: NDArray[np.bool_], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return the image in grey with some pixels in a colour.

    Args:
        image: uint8 ``(height, width, channels)``.
        is_marked: ``(height, width)``.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    grey = np.rint(image.mean(axis=2, keepdims=True)).astype(np.uint8)
    return np.where(is_marked[..., None], np.array(colour, np.uint8), grey)


def hex_colour(code: int) -> str:
    """Return the colour of a class as in CSS, such as ``#800000``."""
    red, green, blue = palette()[code].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"
