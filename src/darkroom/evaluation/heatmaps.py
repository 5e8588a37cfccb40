"""Heatmaps of the image regions that a prediction rests on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from darkroom.evaluation.evaluation import Evaluation
from darkroom.evaluation.hardest import HardImage, Heatmap
from darkroom.models.classifier import Classifier

LEAST_SIDE = 4
"""Minimum height and width of a feature map that is a heatmap of use."""
MOST_SIDE = 16
"""Maximum side of a heatmap from gradients of pixels, which are noisy at full resolution."""
LEVELS = 16
"""Heat is rounded to so few levels, so that the last digits of a gradient do not change the file."""
PIXELS_AT_ONCE = 200_000
"""Pixels of the images whose activations are kept in memory together."""


def add_heatmaps(
    images: Sequence[HardImage], model: Classifier, evaluation: Evaluation
) -> list[HardImage]:
    """Return the images with the heatmap of the class that ``evaluation.explained`` names for each."""
    indices = [image.index for image in images]
    classes = evaluation.explained[indices]
    pixels = np.stack([image.pixels for image in images]).transpose(0, 3, 1, 2)
    heat, method = heatmaps(model, torch.from_numpy(pixels.copy()).to(model.mean.device), classes)
    return [
        replace(
            image,
            heatmap=Heatmap(quantised(values), f"{evaluation.class_names[label]} ({method})"),
        )
        for image, values, label in zip(images, heat.numpy(), classes.tolist(), strict=True)
    ]


def heatmaps(model: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, str]:
    """Return how much each region of an image speaks for a class.

    If the model computes feature maps to the end, this is Grad-CAM (Selvaraju et al., "Grad-CAM: Visual
    Explanations from Deep Networks via Gradient-based Localization", 2017) on the last map with at least
    4 x 4 positions. Otherwise (perceptrons, transformers of tokens), it is the gradient times input
    (Shrikumar et al., "Not Just a Black Box", 2016), where the input is the difference from the mean of
    the training pixels: to first order, what hiding a pixel takes from the logit. It is averaged over
    regions. Both keep only what speaks for the class: what speaks against it is 0.

    Args:
        model: in evaluation mode.
        images: uint8 ``(n, channels, height, width)``, 0..255, on the model's device.
        classes: int64 ``(n,)``.

    Returns:
        float64 ``(n, h, w)``, at least 0, on the CPU; and the name of the method.
    """
    size = max(PIXELS_AT_ONCE // images[0, 0].numel(), 1)
    maps = [
        _heatmaps(model, some, of_some.to(images.device))
        for some, of_some in zip(images.split(size), classes.split(size), strict=True)
    ]
    return torch.cat([heat for heat, _ in maps]), maps[0][1]


def quantised(heat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return heat ``(h, w)`` as levels 0..15, relative to the hottest position."""
    return np.rint(heat / max(heat.max(), np.finfo(np.float64).tiny) * (LEVELS - 1)).astype(np.uint8)


@torch.enable_grad()
def _heatmaps(model: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, str]:
    pixels = images.float().requires_grad_()
    last = _LastMap()
    hooks = [module.register_forward_hook(last) for module in model.network.backbone.modules()]
    try:
        logits = model(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    score = logits.gather(1, classes[:, None]).sum()
    if last.output is None:
        [gradients] = torch.autograd.grad(score, pixels)
        product = (gradients.double() * (pixels - 255 * model.mean).double()).sum(dim=1)
        height, width = product.shape[1:]
        size = (min(height, MOST_SIDE), min(width, MOST_SIDE))
        return F.adaptive_avg_pool2d(product, size).relu().detach().cpu(), "gradient x input"
    [gradients] = torch.autograd.grad(score, last.output)
    features, gradients = last.output.double(), gradients.double()
    if last.is_channels_last(model):
        features, gradients = (tensor.permute(0, 3, 1, 2) for tensor in (features, gradients))
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu().detach().cpu(), "Grad-CAM"


class _LastMap:
    """A hook that keeps the last feature map, unless tokens follow it."""

    output: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if output.ndim == 3:
            self.output = None
        if output.ndim == 4 and min(output.shape[1:]) >= LEAST_SIDE:
            self.output = output

    def is_channels_last(self, model: Classifier) -> bool:
        """Return whether the map is ``(n, h, w, C)``, as in timm's swin transformers."""
        assert self.output is not None
        num_features = model.get_submodule("network.head").num_inputs
        return bool(self.output.shape[1] != num_features == self.output.shape[3])
