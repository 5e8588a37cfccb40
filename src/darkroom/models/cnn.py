"""A small convolutional network for small images."""

from torch import Tensor, nn


class CNN(nn.Module):
    """Stages of two 3 x 3 convolutions; each later stage halves the image and doubles the width.

    Batch normalisation follows each convolution (which therefore needs no bias), and a global
    average precedes the linear layer, so any input of at least ``2 ** (depth - 1)`` pixels fits.
    """

    def __init__(self, channels: int, num_classes: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in range(depth):
            out_channels = width * 2**stage
            if stage > 0:
                layers.append(nn.MaxPool2d(2))
            layers += conv_bn_relu(channels, out_channels) + conv_bn_relu(out_channels, out_channels)
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> logits ``(n, num_classes)``."""
        x = self.features(x)
        x = x.mean(dim=(2, 3))  # AdaptiveAvgPool2d has no deterministic backward on CUDA
        return self.head(self.dropout(x))


def conv_bn_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Returns a 3 x 3 convolution that keeps the size, batch normalisation and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
