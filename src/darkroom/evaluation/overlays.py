"""The worst images with their masks in colours, and where these differ."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkroom.reporting.page import embed_image
from darkroom.reporting.palette import mark, overlay
from darkroom.reporting.shown import ReportImage, thumbnail
from darkroom.void import VOID

WRONG = (230, 60, 20)
"""The colour of wrong pixels; no class has it."""


class Mistake(NamedTuple):
    """Pixels of one class that were predicted as another."""

    true: str
    predicted: str
    share: float
    """Fraction of the image's pixels that have a class, 0..1."""


@dataclass(frozen=True)
class WorstImage(ReportImage):
    """A test image with its true and its predicted mask."""

    true_mask: NDArray[np.uint8]
    """``(height, width)``"""
    predicted_mask: NDArray[np.uint8]
    iou: float
    """The mean over the classes that the image shows, 0..1."""
    mistakes: list[Mistake]
    """The largest confusions of pixels."""

    @property
    def views(self) -> list[tuple[str, str]]:
        """Caption and data URL of the image, of both masks, and of where they differ."""
        masks = {"truth": self.true_mask, "prediction": self.predicted_mask}
        shown = {"image": self.pixels, **{name: overlay(self.pixels, m) for name, m in masks.items()}}
        shown["wrong pixels"] = mark(self.pixels, self.is_wrong, WRONG)
        return [(name, embed_image(thumbnail(pixels))) for name, pixels in shown.items()]

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """Where the masks differ and the truth is not void: ``(height, width)``."""
        return (self.true_mask != self.predicted_mask) & (self.true_mask != VOID)

    @property
    def title(self) -> str:
        """Lines of text: the score, and the name of the file."""
        return f"IoU {self.iou:.2f}\n{self.path.rpartition('/')[2]}"

    @property
    def strip(self) -> NDArray[np.uint8]:
        """Truth and prediction one above the other, uint8 ``(2 * height, width, 3)``."""
        return np.concatenate([overlay(self.pixels, m) for m in (self.true_mask, self.predicted_mask)])
