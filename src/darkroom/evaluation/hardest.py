"""The test images whose truth got the lowest probability, spread over the classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.pictures import Pictures
from darkroom.reporting.page import embed_image
from darkroom.reporting.samples import spread_over
from darkroom.reporting.shown import ReportImage

NUM_HARDEST = 30
MIN_PER_CLASS = 3
"""Minimum of the maximum number of images per class."""


COLD_TO_HOT = np.array([[0, 0, 4], [120, 28, 109], [237, 105, 37], [252, 255, 164]])
"""Colours between which those of a heatmap are interpolated (from matplotlib's inferno)."""


@dataclass(frozen=True)
class Heatmap:
    """Regions of an image that a prediction rests on."""

    levels: NDArray[np.uint8]
    """``(h, w)``, 0..15, smaller than the image."""
    title: str
    """The class, and the method in brackets."""

    @property
    def address(self) -> str:
        """The heatmap in colours as a data URL."""
        across = np.linspace(0, 15, len(COLD_TO_HOT))
        colours = [np.interp(self.levels, across, channel) for channel in COLD_TO_HOT.T]
        return embed_image(np.rint(np.stack(colours, axis=-1)).astype(np.uint8))


@dataclass(frozen=True)
class HardImage(ReportImage):
    """An image with its truth and the model's mistakes."""

    index: int
    """In the split."""
    truth: str
    """The true class or labels, and their probability."""
    mistakes: list[str]
    """The wrong predictions; empty if the model was right."""
    heatmap: Heatmap | None = None

    @property
    def title(self) -> str:
        """Lines of text: truth, mistakes, and the name of the file."""
        return "\n".join([self.truth, *self.mistakes, self.path.rpartition("/")[2]])


def hardest_images(evaluation: Evaluation, shards: Pictures) -> list[HardImage]:
    """Return the images whose truth got the lowest probability, the hardest first."""
    probabilities, paths = evaluation.truth_probabilities, shards.paths
    indices = hardest(probabilities, evaluation.truth_groups)
    pixels = shards.gather(np.array(indices, dtype=np.int64))
    return [
        HardImage(
            image,
            paths[index],
            index,
            f"{evaluation.truth(index)}: {probabilities[index]:.2f}",
            evaluation.mistakes(index),
        )
        for index, image in zip(indices, pixels, strict=True)
    ]


def hardest(probabilities: Tensor, groups: NDArray[np.int64]) -> list[int]:
    """Return the indices of the 30 images whose truth got the lowest probability, a few per class.

    The maximum per class is its equal share of 30, but at least three.

    Args:
        probabilities: probability of each image's true class or set of labels, float ``(n,)``.
        groups: a number for each image's true class or set of labels, int64 ``(n,)``.
    """
    num_groups = len(np.unique(groups))
    most = max(-(-NUM_HARDEST // max(num_groups, 1)), MIN_PER_CLASS)
    return spread_over(groups, probabilities.argsort(stable=True).numpy(), NUM_HARDEST, most)
