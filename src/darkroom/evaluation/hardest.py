"""The test images on which a model was the least right, spread over the classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.evaluation.evaluation import Evaluation
from darkroom.reporting.page import LARGEST_LOSSLESS, embed_image
from darkroom.reporting.samples import spread_over
from darkroom.reporting.shown import thumbnail

NUM_HARDEST = 30
MIN_PER_CLASS = 3
"""Images of one class that may be shown, however many classes there are."""


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
        return embed_image(thumbnail(self.pixels))

    @property
    def is_tiny(self) -> bool:
        """Whether single pixels are to be seen."""
        return max(self.pixels.shape[:2]) <= LARGEST_LOSSLESS

    @property
    def title(self) -> str:
        """As lines of text, of which the last is the file's name without its folders."""
        return "\n".join([self.truth, *self.mistakes, self.path.rpartition("/")[2]])


def hardest_images(evaluation: Evaluation, shards: Shards) -> list[HardImage]:
    """Return the images whose truth got the lowest probability, the hardest first."""
    probabilities, paths = evaluation.truth_probabilities, shards.paths
    indices = hardest(probabilities, evaluation.truth_groups)
    pixels = shards.gather(np.array(indices, dtype=np.int64))
    return [
        HardImage(
            image,
            paths[index],
            f"{evaluation.truth(index)}: {probabilities[index]:.2f}",
            evaluation.mistakes(index),
        )
        for index, image in zip(indices, pixels, strict=True)
    ]


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
