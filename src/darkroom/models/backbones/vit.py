"""A vision transformer for small images (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021)."""

import math

import torch
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.backbones.activations import make_activation
from darkroom.models.backbones.layers import Dropout, StochasticDepth, rising
from darkroom.models.backbones.shapes import Window, output_size

HEAD_WIDTH = 32


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017), without ``scaled_dot_product_attention``.

    That function chooses kernels by device and size, and not all of them have deterministic gradients.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, patches, width)`` -> the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (n, patches, 3, heads, width)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind()  # (n, heads, patches, width) each
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])
        mixed = scores.softmax(dim=3) @ values
        return self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Attention and a perceptron with 4 x width units, each pre-normalised and residual."""

    def __init__(
        self, width: int, num_heads: int, dropout: float, stochastic_depth: float, activation: str
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            make_activation(activation),
            Dropout(dropout),
            nn.Linear(4 * width, width),
            Dropout(dropout),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, patches, width)`` -> the same shape."""
        x = x + self.stochastic_depth(self.attention(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Patches with learned positions, blocks, and the mean over the patches.

    The mean performs as well as a class token (Beyer et al., "Better plain ViT baselines for
    ImageNet-1k", 2022). The width of an attention head is 32 or slightly more.

    Raises:
        UserError: the patches do not cover the image, or ``width`` is not a multiple of the number of
            heads.
    """

    def __init__(
        self,
        channels: int,
        input_size: tuple[int, int],
        patch_size: int,
        width: int,
        depth: int,
        dropout: float,
        stochastic_depth: float,
        activation: str,
    ) -> None:
        super().__init__()
        num_heads = max(1, width // HEAD_WIDTH)
        _check(input_size, patch_size, width, num_heads)
        window = Window(patch_size, stride=patch_size)
        num_patches = math.prod(output_size(side, [window]) for side in input_size)
        self.patches = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        self.positions = nn.Parameter(torch.empty(1, num_patches, width))
        self.dropout = Dropout(dropout)
        self.blocks = nn.Sequential(
            *(Block(width, num_heads, dropout, p, activation) for p in rising(stochastic_depth, depth))
        )
        self.norm = nn.LayerNorm(width)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, channels, height, width)`` -> features ``(n, C)``."""
        x = self.patches(x).flatten(2).transpose(1, 2)  # (n, patches, width)
        x = self.blocks(self.dropout(x + self.positions))
        return self.norm(x).mean(dim=1)


def _check(input_size: tuple[int, int], patch_size: int, width: int, num_heads: int) -> None:
    common = math.gcd(*input_size)
    if common % patch_size:
        sides = [str(side) for side in range(1, common + 1) if common % side == 0]
        height, image_width = input_size
        raise UserError(
            f"model.patch_size: patches of {patch_size} x {patch_size} do not cover images of "
            f"{height} x {image_width} pixels; use one of {', '.join(sides)}, or change "
            "prepare.image_size (and train.image_size)"
        )
    if width % num_heads:
        below = width // HEAD_WIDTH * HEAD_WIDTH
        raise UserError(
            f"model.width: {width} is not a multiple of the {num_heads} attention heads; use a multiple "
            f"of {HEAD_WIDTH}, such as {below}"
        )
