"""The U-Net: an encoder that halves the image, and a decoder that restores its size.

From Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(2015), figure 1. Two things differ from the paper, as in most of today's U-Nets: convolutions are
padded, so that the result is as large as the image, and batch normalisation follows each of them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from darkroom.models.backbones.activations import make_pooling
from darkroom.models.backbones.cnn import conv_bn_act
from darkroom.models.backbones.pixels import PixelBackbone
from darkroom.models.backbones.shapes import Window


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions that keep the size, each with batch normalisation and an activation.

    With a ``stride`` of 2, the first one halves the size.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str, stride: int = 1) -> None:
        super().__init__(
            *conv_bn_act(in_channels, out_channels, activation, stride),
            *conv_bn_act(out_channels, out_channels, activation),
        )


class Down(nn.Sequential):
    """One level of the encoder: halve the size, then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, activation: str, pooling: str) -> None:
        halving = make_pooling(pooling)
        stride = 1 if halving else 2
        super().__init__(*halving, DoubleConv(in_channels, out_channels, activation, stride))


class Up(nn.Module):
    """One level of the decoder: double the size, add the encoder's map of that size, two convolutions.

    ``skip_channels`` is the number of channels of the encoder's map; 0: there is none.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, activation: str) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(out_channels + skip_channels, out_channels, activation)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Double a map.

        Args:
            x: float ``(n, in_channels, h, w)``.
            skip: float ``(n, skip_channels, 2h, 2w)``, from the encoder.

        Returns:
            float ``(n, out_channels, 2h, 2w)``.
        """
        x = self.up(x)
        return self.conv(x if skip is None else torch.cat([skip, x], dim=1))


class Decoder(nn.Module):
    """The right half of the U-Net, over the maps of any encoder whose sizes halve from map to map.

    Args:
        channels: of the encoder's maps, the largest map first.
        widths: the channels after each doubling, the largest map first. One more than the maps allow
            (``len(channels)`` instead of ``len(channels) - 1``) doubles the size once more, without a
            map of the encoder.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], activation: str = "relu") -> None:
        super().__init__()
        num_extra = len(widths) - (len(channels) - 1)
        assert num_extra >= 0
        skips = [0] * num_extra + [*channels[:-1]]
        inputs = [*widths, channels[-1]][1:]
        levels = zip(inputs, skips, widths, strict=True)
        self.ups = nn.ModuleList(Up(*level, activation) for level in reversed(list(levels)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps, float ``(n, C, h, w)``, the largest first -> ``(n, widths[0], H, W)``."""
        *skips, x = maps
        for up in self.ups:
            x = up(x, skips.pop() if skips else None)
        return x


class UNet(PixelBackbone):
    """``depth`` levels of ``width``, 2 x ``width``, 4 x ``width``, ... channels.

    The paper's network has ``width=64, depth=5``. Both sides of the images must be multiples of
    ``2 ** (depth - 1)``, because each level halves the size of the one above.
    """

    def __init__(
        self, channels: int, width: int, depth: int, activation: str = "relu", pooling: str = "max"
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.first = DoubleConv(channels, width, activation)
        self.downs = nn.ModuleList(Down(*pair, activation, pooling) for pair in pairwise(widths))
        self.decoder = Decoder(widths, widths[:-1], activation)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, height, width)``."""
        maps = [self.first(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return self.decoder(maps)

    @staticmethod
    def halvings(depth: int, pooling: str = "max") -> list[Window]:
        """Return the windows that halve the size; the other convolutions keep it."""
        window = Window(3, stride=2, padding=1) if pooling == "stride" else Window(2, stride=2)
        return [window] * (depth - 1)
