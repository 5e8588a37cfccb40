"""torchvision's classification models, from random weights."""

from typing import Any

from torch import Tensor, nn
from torchvision import models

from darkroom.errors import UserError, did_you_mean

# Auxiliary heads return tuples in training; they are left out.
_WITHOUT_AUXILIARY: dict[str, Any] = {"aux_logits": False, "init_weights": True}
_OPTIONS = {"inception_v3": _WITHOUT_AUXILIARY, "googlenet": _WITHOUT_AUXILIARY}


class GreyToRGB(nn.Module):
    """Repeats the one channel of grey images three times, for networks made for RGB."""

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, 1, height, width)`` -> ``(n, 3, height, width)``."""
        return x.expand(-1, 3, -1, -1)


def make_torchvision(name: str, channels: int, num_classes: int) -> nn.Module:
    """Makes ``torchvision.models.NAME`` with ``num_classes`` outputs.

    Raises:
        UserError: torchvision has no classification model of that name.
    """
    known = models.list_models(module=models)
    if name not in known:
        near = did_you_mean(name, known) or "."
        raise UserError(
            f"model.name: torchvision has no classification model {name}{near}"
            f" There are: {', '.join(known)}"
        )
    network = models.get_model(name, weights=None, num_classes=num_classes, **_OPTIONS.get(name, {}))
    return nn.Sequential(GreyToRGB(), network) if channels == 1 else network
