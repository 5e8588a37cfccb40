"""The U-Net: an encoder that halves the image, and a decoder that restores its size.

From Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(2015), figure 1. Two things differ from the paper, as in most of today's U-Nets: convolutions are
padded, so that the result is as large as the image, and batch normalisation follows each of them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from darkroom.models.backbones.cnn import conv_bn_relu
from darkroom.models.backbones.shapes import Window


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions that keep the size, each with batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *conv_bn_relu(in_channels, out_channels), *conv_bn_relu(out_channels, out_channels)
        )


class Down(nn.Sequential):
    """One level of the encoder: halve the size, then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))


class Up(nn.Module):
    """One level of the decoder: double the size, add the encoder's map of that size, two convolutions.

    ``skip_channels`` is the number of channels of the encoder's map; 0: there is none.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(out_channels + skip_channels, out_channels)

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

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        num_extra = len(widths) - (len(channels) - 1)
        assert num_extra >= 0
        skips = [0] * num_extra + [*channels[:-1]]
        inputs = [*widths, channels[-1]][1:]
        levels = zip(inputs, skips, widths, strict=True)
        self.ups = nn.ModuleList(Up(*level) for level in reversed(list(levels)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps, float ``(n, C, h, w)``, the largest first -> ``(n, widths[0], H, W)``."""
        *skips, x = maps
        for up in self.ups:
            x = up(x, skips.pop() if skips else None)
        return x


class UNet(nn.Module):
    """``depth`` levels of ``width``, 2 x ``width``, 4 x ``width``, ... channels.

    The paper's network has ``width=64, depth=5``. Both sides of the images must be multiples of
    ``2 ** (depth - 1)``, because each level halves the size of the one above.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.first = DoubleConv(channels, width)
        self.downs = nn.ModuleList(Down(*pair) for pair in pairwise(widths))
        self.decoder = Decoder(widths, widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, height, width)``."""
        maps = [self.first(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return self.decoder(maps)

    @staticmethod
    def halvings(depth: int) -> list[Window]:
        """Return the windows of the poolings; the convolutions keep the size."""
        return [Window(2, stride=2)] * (depth - 1)
