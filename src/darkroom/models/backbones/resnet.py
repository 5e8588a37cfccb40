"""A residual network for small images, without a stem that reduces their size."""

from torch import Tensor, nn

from darkroom.models.backbones.activations import make_activation, make_pooling
from darkroom.models.backbones.layers import StochasticDepth, rising


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al., 2016, figure 2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        stochastic_depth: float,
        activation: str,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.activation = make_activation(activation)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        # each block starts as the identity (Goyal et al., 2017, section 5.1)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        out = self.stochastic_depth(self.bn2(self.conv2(out)))
        return self.activation(out + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of residual blocks with widths w, 2w and 4w; the last two halve the image.

    As for CIFAR-10 in "Deep Residual Learning" (He et al., 2016, section 4.2), with projection
    shortcuts: ``width=16, depth=3`` and a linear head are ResNet-20 (6 * depth + 2 layers). Other
    poolings than ``stride`` halve the image before a stage, whose convolutions then have no stride.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        stochastic_depth: float,
        activation: str,
        pooling: str,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.activation = make_activation(activation)
        blocks: list[nn.Module] = []
        in_channels = width
        probabilities = iter(rising(stochastic_depth, 3 * depth))
        for stage in range(3):
            for block in range(depth):
                halves = stage > 0 and block == 0
                halving = make_pooling(pooling) if halves else []
                stride = 2 if halves and not halving else 1
                out_channels, probability = width * 2**stage, next(probabilities)
                residual = ResidualBlock(in_channels, out_channels, stride, probability, activation)
                blocks += [*halving, residual]
                in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> a map of features ``(n, C, h, w)``."""
        return self.blocks(self.activation(self.bn(self.conv(x))))
