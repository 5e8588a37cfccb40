"""A small convolutional network for small images."""

from torch import Tensor, nn

from darkroom.models.backbones.shapes import Window


class CNN(nn.Module):
    """Stages of two 3 x 3 convolutions; each later stage halves the image and doubles the width.

    Batch normalisation follows each convolution (which therefore needs no bias).
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        stages = []
        for stage in range(depth):
            out_channels = width * 2**stage
            halving = [nn.MaxPool2d(2)] if stage > 0 else []
            stages.append(
                nn.Sequential(
                    *halving,
                    *conv_bn_relu(channels, out_channels),
                    *conv_bn_relu(out_channels, out_channels),
                )
            )
            channels = out_channels
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, h, w)``."""
        return self.stages(x)

    @staticmethod
    def windows(depth: int) -> list[Window]:
        """Return the windows of the convolutions and poolings."""
        convolutions = [Window(3, padding=1)] * 2
        return convolutions + [Window(2, stride=2), *convolutions] * (depth - 1)


def conv_bn_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return a 3 x 3 convolution that keeps the size, batch normalisation and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
