"""torchvision's networks for masks (FCN, DeepLabV3, LR-ASPP) without their last layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.segmentation.lraspp import LRASPP

from darkroom.models.backbones.pixels import PixelBackbone


def list_names() -> list[str]:
    """Return the names of all networks for masks."""
    return models.list_models(module=models.segmentation)


def make_whole(name: str, with_auxiliary: bool = False) -> Any:
    """Return ``torchvision.models.segmentation.NAME`` with random weights."""
    auxiliary = {"aux_loss": True} if with_auxiliary and not name.startswith("lraspp") else {}
    return models.get_model(name, weights=None, weights_backbone=None, **auxiliary)


def make_backbone(name: str) -> PixelBackbone:
    """Return a network without its last layer, with torchvision's names of parameters."""
    network = make_whole(name)
    return _LowAndHigh(network) if isinstance(network, LRASPP) else _UntilTheLast(network)


class _UntilTheLast(PixelBackbone):
    """FCN (Long et al., 2015) or DeepLabV3 (Chen et al., 2017)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone = network.backbone
        layers = list(network.classifier)[:-1]
        if isinstance(layers[-1], nn.Dropout):  # the head has its own
            del layers[-1]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, 3, height, width)`` -> ``(n, C, h, w)``, an eighth or a sixteenth of the size."""
        return self.classifier(self.backbone(x)["out"])


class _LowAndHigh(PixelBackbone):
    """LR-ASPP (Howard et al., 2019), whose last layer adds two 1 x 1 convolutions of maps.

    A single one of both maps together computes the same.
    """

    def __init__(self, network: LRASPP) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.classifier = network.classifier
        for last in ("low_classifier", "high_classifier"):
            delattr(self.classifier, last)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, 3, height, width)`` -> ``(n, C, height / 8, width / 8)``."""
        maps = self.backbone(x)
        low, high = maps["low"], maps["high"]
        high = self.classifier.cbr(high) * self.classifier.scale(high)
        size = low.shape[2:]
        return torch.cat([low, F.interpolate(high, size, mode="bilinear", align_corners=False)], dim=1)
