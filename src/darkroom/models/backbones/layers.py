"""Layers that several networks use."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """``nn.Dropout`` (Srivastava et al., 2014) that takes 16 random bits per element on a CPU.

    torch draws a float64 for each, on one core, which takes two to four times as long. The probability
    is rounded to a multiple of 1 / 65,536, and what is kept is scaled by the rounded one, which
    preserves the mean.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float ``(...)`` -> the same shape."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        num_zeroed = min(round(self.p * 2**16), 2**16 - 1)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        values = words.view(torch.int16)[: x.numel()].view(x.shape)
        is_kept = values >= num_zeroed - 2**15
        return x * is_kept.to(x.dtype).mul_(2**16 / (2**16 - num_zeroed))


class StochasticDepth(nn.Module):
    """Drop a residual branch for some of the images (Huang et al., 2016).

    The other branches are scaled by ``1 / (1 - probability)``, which preserves the mean. In evaluation
    mode nothing is dropped.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """float ``(n, ...)`` -> the same shape."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        factors = branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(kept)
        return branch * (factors / kept)

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}"


def rising(probability: float, num_blocks: int) -> list[float]:
    """Return each block's probability, which rises linearly from 0 to ``probability``."""
    return [probability * block / max(1, num_blocks - 1) for block in range(num_blocks)]


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation of vectors that also accepts a batch of one image, which has no variance.

    torch would raise an exception; here the running statistics are used. An epoch's last batch may have
    one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, C)`` -> the same shape."""
        if self.training and len(x) == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, with deterministic gradients on CUDA."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """float ``(n, C, height, width)`` -> ``(n, C, *output_size)``."""
        rows, columns = (
            _shares(size, num_bins, x)
            for size, num_bins in zip(x.shape[2:], self.output_size, strict=True)
        )
        return rows @ x @ columns.T

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


def _shares(size: int, num_bins: int, like: Tensor) -> Tensor:
    """Return the weights of ``size`` values in the mean of each bin: ``(num_bins, size)``."""
    bins = torch.arange(num_bins, device=like.device)[:, None]
    places = torch.arange(size, device=like.device)
    first, end = bins * size // num_bins, ((bins + 1) * size + num_bins - 1) // num_bins
    is_inside = (places >= first) & (places < end)
    return (is_inside / is_inside.sum(dim=1, keepdim=True)).to(like.dtype)
