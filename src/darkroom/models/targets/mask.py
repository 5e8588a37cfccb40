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
    """Return a U-Net whose encoder is the backbone, unless that has features for each pixel already.

    Raises:
        UserError: see ``find_stages``.
    """
    import torch

    from darkroom.models.backbones.pixels import PixelBackbone
    from darkroom.models.backbones.pyramid import PyramidUNet, find_stages

    if isinstance(backbone, PixelBackbone):
        return backbone
    channels = 3 if spec.expects_rgb else spec.channels
    image = torch.zeros(1, channels, *spec.input_size)
    stages = find_stages(spec.name, backbone, image)
    return PyramidUNet(backbone, stages) if stages else backbone


def head(spec: "ModelSpec", feature_shape: Sequence[int]) -> "Head":
    """Return a head that computes logits for each pixel of the image.

    Raises:
        UserError: the maps of the backbone are not smaller than the image by a whole factor, or the spec
            names a head that pools maps.
    """
    from darkroom.models.heads import PixelHead

    height, width = spec.input_size
    channels, rows, columns = feature_shape
    factor = max(-(-height // rows), 1)
    if (rows * factor, columns * factor) != spec.input_size:
        raise UserError(
            f"model.name: {spec.name} makes maps of {rows} x {columns} from images of {height} x"
            f" {width}; set prepare.image_size (and train.image_size) to multiples of {factor}, or"
            " choose another network"
        )
    if spec.head != "linear":
        raise UserError(
            f"model.head: {spec.head} pools the features of all pixels, and the images of this data set "
            "have masks; choose linear"
        )
    return PixelHead(channels, len(spec.class_names), spec.dropout, factor)


def probabilities(logits: "Tensor") -> "Tensor":
    """Return probabilities of classes, ``(n, num_classes, h, w)``, which sum to 1 in each pixel."""
    return logits.softmax(dim=1)


def decide(probabilities: NDArray[np.floating], thresholds: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return the most probable class of each pixel; among equals, the first."""
    best = probabilities.argmax(axis=1)[:, None]
    return best == np.arange(probabilities.shape[1])[:, None, None]


def description(thresholds: Sequence[float] | None) -> dict[str, Any]:
    return {"target": "mask", "void": VOID}
