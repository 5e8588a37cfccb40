"""Initial weights of darkroom's own networks by the rules of the textbooks."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from darkroom.models.backbones.activations import GAINS
from darkroom.models.backbones.vit import Block, ViT


def initialise(backbone: nn.Module, init: str, activation: str) -> None:
    """Replace the weights of all convolutions and linear layers by draws from torch's global generator.

    The gain of a layer is that of the activation that its outputs pass through. It is 1 for the layers
    of a transformer that no activation follows. Biases become 0, except for ``torch``, which calls
    ``reset_parameters``. Norms and position embeddings stay as they are.

    Args:
        init: a key of ``RULES``, or ``torch``.
        activation: a key of ``GAINS``.
    """
    for layer in backbone.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if init == "torch":
            layer.reset_parameters()
            continue
        RULES[init](layer.weight, GAINS[activation] if _is_activated(layer, backbone) else 1.0)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def kaiming(weight: Tensor, gain: float) -> None:
    """Draw normal weights that keep the variance forward: ``std = gain / sqrt(fan_in)``.

    He et al., "Delving Deep into Rectifiers", 2015. ``nn.init.kaiming_normal_`` does the same, for the
    activations whose gain PyTorch knows.
    """
    nn.init.normal_(weight, std=gain / math.sqrt(weight[0].numel()))


RULES: dict[str, Callable[[Tensor, float], object]] = {
    "kaiming": kaiming,
    "xavier": nn.init.xavier_normal_,  # Glorot and Bengio, 2010: the mean of fan_in and fan_out
    "orthogonal": nn.init.orthogonal_,  # Saxe et al., 2014: lengths are kept, not only on average
}


def _is_activated(layer: nn.Module, backbone: nn.Module) -> bool:
    """Return whether an activation follows the layer, maybe after a norm."""
    if not isinstance(backbone, ViT):
        return True
    return any(isinstance(block, Block) and layer is block.mlp[0] for block in backbone.blocks)
