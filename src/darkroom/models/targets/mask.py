"""Models that predict masks: one class per pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError
from darkroom.void import VOID

if TYPE_CHECKING:
    from torch import Tensor, nn

    from darkroom.models.heads import Head
    from darkroom.models.spec import ModelSpec


needs_map = True


def adapted(backbone: "nn.Module", spec: "ModelSpec") -> "nn.Module":
    """Return a U-Net whose encoder is the backbone, unless it is a U-Net itself.

    Raises:
        UserError: see ``find_stages``.
    """
    if spec.name == "unet":
        return backbone

    import torch

    from darkroom.models.backbones.pyramid import PyramidUNet, find_stages

    channels = 3 if spec.expects_rgb else spec.channels
    image = torch.zeros(1, channels, *spec.input_size)
    return PyramidUNet(backbone, find_stages(spec.name, backbone, image))


def head(spec: "ModelSpec", feature_shape: Sequence[int]) -> "Head":
    """Return a head that computes logits for each position of a map as large as the image.

    Raises:
        UserError: the backbone has no such map, or the spec names a head that pools maps.
    """
    from darkroom.models.heads import PixelHead

    if tuple(feature_shape[1:]) != spec.input_size:
        raise UserError(
            f"model.name: {spec.name} has no features for each pixel, and the images of this data set "
            "have masks; choose unet, or a network that makes maps, as cnn"
        )
    if spec.head != "linear":
        raise UserError(
            f"model.head: {spec.head} pools the features of all pixels, and the images of this data set "
            "have masks; choose linear"
        )
    return PixelHead(feature_shape[0], len(spec.class_names), spec.dropout)


def probabilities(logits: "Tensor") -> "Tensor":
    """Return probabilities of classes, ``(n, num_classes, h, w)``, which sum to 1 in each pixel."""
    return logits.softmax(dim=1)


def decide(probabilities: NDArray[np.floating], thresholds: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return the most probable class of each pixel; among equals, the first."""
    best = probabilities.argmax(axis=1)[:, None]
    return best == np.arange(probabilities.shape[1])[:, None, None]


def description(thresholds: Sequence[float] | None) -> dict[str, Any]:
    return {"target": "mask", "void": VOID}
