"""A small convolutional network for small images."""

from torch import Tensor, nn

from darkroom.models.backbones.activations import make_activation, make_pooling
from darkroom.models.backbones.shapes import Window


class CNN(nn.Module):
    """Stages of two 3 x 3 convolutions; each later stage halves the image and doubles the width.

    Batch normalisation follows each convolution (which therefore needs no bias). With the pooling
    ``stride``, a stage's first convolution halves the image.
    """

    def __init__(self, channels: int, width: int, depth: int, activation: str, pooling: str) -> None:
        super().__init__()
        stages = []
        for stage in range(depth):
            out_channels = width * 2**stage
            halving = make_pooling(pooling) if stage > 0 else []
            stride = 2 if stage > 0 and not halving else 1
            stages.append(
                nn.Sequential(
                    *halving,
                    *conv_bn_act(channels, out_channels, activation, stride),
                    *conv_bn_act(out_channels, out_channels, activation),
                )
            )
            channels = out_channels
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, h, w)``."""
        return self.stages(x)

    @staticmethod
    def windows(depth: int, pooling: str) -> list[Window]:
        """Return the windows of the convolutions and poolings."""
        keeping = Window(3, padding=1)
        halving = (
            [Window(3, stride=2, padding=1)] if pooling == "stride" else [Window(2, stride=2), keeping]
        )
        return [keeping, keeping, *[*halving, keeping] * (depth - 1)]


def conv_bn_act(
    in_channels: int, out_channels: int, activation: str, stride: int = 1
) -> list[nn.Module]:
    """Return a 3 x 3 convolution, batch normalisation and an activation."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        make_activation(activation),
    ]
