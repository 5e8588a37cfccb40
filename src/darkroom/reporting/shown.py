"""Images in a report, reduced to thumbnails."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.dataset.storage import as_picture
from darkroom.reporting.page import LARGEST_LOSSLESS, embed_image

THUMBNAIL = 160
"""Maximum side of a thumbnail in pixels."""


@dataclass(frozen=True)
class ReportImage:
    """An image in a report, embedded as a thumbnail."""

    pixels: NDArray[np.uint8]
    """``(height, width, channels)``, 0..255, of the prepared size or reduced."""
    path: str
    """The source file."""

    @property
    def address(self) -> str:
        """The thumbnail as a data URL."""
        return embed_image(thumbnail(self.pixels))

    @property
    def is_tiny(self) -> bool:
        """Whether single pixels should be visible."""
        return max(self.pixels.shape[:2]) <= LARGEST_LOSSLESS


@dataclass(frozen=True)
class Shown(ReportImage):
    """An image of the data set, with what ``prepare`` decided about it."""

    label: str
    split: str | None
    outcome: str
    """Empty if it is not decided yet."""

    @property
    def fate(self) -> str:
        """The split, or the reason for the exclusion."""
        if self.split is None and not self.outcome:
            return "no split given"
        return self.split or f"excluded: {self.outcome}"


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with sides of at most ``THUMBNAIL``, uint8 ``(height, width, channels)``."""
    height, width, channels = image.shape
    longest = max(height, width)
    if longest <= THUMBNAIL:
        return image
    size = (max(width * THUMBNAIL // longest, 1), max(height * THUMBNAIL // longest, 1))
    return np.asarray(as_picture(image).resize(size, Image.Resampling.BILINEAR)).reshape(
        size[1], size[0], channels
    )
