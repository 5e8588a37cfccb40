"""Masks in colours, over the images that they belong to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.reporting.page import embed_image
from darkroom.reporting.palette import palette
from darkroom.reporting.shown import ReportImage, thumbnail
from darkroom.void import VOID

OPACITY = 0.55
"""Share of the class's colour in a pixel; the rest is the image in grey."""


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


@dataclass(frozen=True)
class WorstImage(ReportImage):
    """A test image with its true and its predicted mask."""

    true_mask: NDArray[np.uint8]
    """``(height, width)``"""
    predicted_mask: NDArray[np.uint8]
    iou: float
    """The mean over the classes that the image shows, 0..1."""
    mistakes: list[str]
    """The largest confusions of pixels, one phrase each."""

    @property
    def views(self) -> list[tuple[str, str]]:
        """Caption and data URL of the image, of the truth and of the prediction."""
        masks = {"truth": self.true_mask, "prediction": self.predicted_mask}
        shown = {"image": self.pixels, **{name: overlay(self.pixels, m) for name, m in masks.items()}}
        return [(name, embed_image(thumbnail(pixels))) for name, pixels in shown.items()]

    @property
    def title(self) -> str:
        """Lines of text: the score, and the name of the file."""
        return f"IoU {self.iou:.2f}\n{self.path.rpartition('/')[2]}"

    @property
    def strip(self) -> NDArray[np.uint8]:
        """Truth and prediction one above the other, uint8 ``(2 * height, width, 3)``."""
        return np.concatenate([overlay(self.pixels, m) for m in (self.true_mask, self.predicted_mask)])
