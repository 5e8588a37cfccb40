"""The worst images with their masks in colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.reporting.page import embed_image
from darkroom.reporting.palette import overlay
from darkroom.reporting.shown import ReportImage, thumbnail


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
