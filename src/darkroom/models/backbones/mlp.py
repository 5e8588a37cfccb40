"""A multilayer perceptron, for very small images and as a baseline for convolutions."""

from torch import Tensor, nn

from darkroom.models.backbones.activations import make_activation
from darkroom.models.backbones.layers import BatchNorm1d, Dropout


class MLP(nn.Module):
    """Layers of ``width`` units over all pixels: linear, batch normalisation, activation.

    There is dropout between the layers; the head has its own.
    """

    def __init__(self, num_inputs: int, width: int, depth: int, dropout: float, activation: str) -> None:
        super().__init__()
        layers = []
        for layer in range(depth):
            layers.append(
                nn.Sequential(
                    Dropout(dropout if layer > 0 else 0),
                    nn.Linear(num_inputs, width, bias=False),  # batch normalisation has one
                    BatchNorm1d(width),
                    make_activation(activation),
                )
            )
            num_inputs = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> features ``(n, C)``."""
        return self.layers(x.flatten(1))
