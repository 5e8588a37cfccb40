"""The test images on which a model was the least right, spread over the classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from darkroom.data.storage import as_picture
from darkroom.reporting.page import LARGEST_LOSSLESS, embed_image
from darkroom.reporting.samples import spread_over

NUM_HARDEST = 30
MIN_PER_CLASS = 3
"""Images of one class that may be shown, however many classes there are."""
LONGEST_SIDE = 224
"""Of a picture in the report, in pixels."""


@dataclass(frozen=True)
class HardImage:
    """An image with what the model made of it."""

    pixels: NDArray[np.uint8]
    """``(height, width, channels)``, 0..255."""
    path: str
    """Of the source file."""
    truth: str
    """Its class or labels, and their probability."""
    mistakes: list[str]
    """What the model said instead; nothing if it was right."""

    @property
    def address(self) -> str:
        """For ``<img src>``."""
        longest = max(self.pixels.shape[:2])
        if longest <= LONGEST_SIDE:
            return embed_image(self.pixels)
        height, width, channels = self.pixels.shape
        size = (max(width * LONGEST_SIDE // longest, 1), max(height * LONGEST_SIDE // longest, 1))
        smaller = np.asarray(as_picture(self.pixels).resize(size, Image.Resampling.BILINEAR))
        return embed_image(smaller.reshape(size[1], size[0], channels))

    @property
    def is_tiny(self) -> bool:
        """Whether single pixels are to be seen."""
        return max(self.pixels.shape[:2]) <= LARGEST_LOSSLESS

    @property
    def title(self) -> str:
        """As lines of text, of which the last is the file's name without its folders."""
        return "\n".join([self.truth, *self.mistakes, self.path.rpartition("/")[2]])


def hardest(probabilities: Tensor, groups: NDArray[np.int64]) -> list[int]:
    """Return the images whose truth got the lowest probability, but only a few of each class.

    Of one class there are at most its equal part of 30, or three if that is less.

    Args:
        probabilities: float ``(n,)``, of each image's true class or set of labels.
        groups: int64 ``(n,)``, the class or set of labels as a number.
    """
    num_groups = len(np.unique(groups))
    most = max(-(-NUM_HARDEST // max(num_groups, 1)), MIN_PER_CLASS)
    return spread_over(groups, probabilities.argsort(stable=True).numpy(), NUM_HARDEST, most)
