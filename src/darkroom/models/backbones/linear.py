"""Linear layers that oneDNN computes on a CPU, because MKL is slow where it must be reproducible."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """``nn.Linear``, on a CPU in float32 through oneDNN.

    torch would call MKL, whose only kernels that are the same on every CPU are slow (see
    docs/decisions/0025-linear-layers-through-onednn.md). Weights and names are those of ``nn.Linear``.
    While it is traced, compiled or exported, this is a standard linear layer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float ``(..., in_features)`` -> ``(..., out_features)``."""
        if not _is_for_onednn(x):
            return super().forward(x)
        rows = x.reshape(-1, self.in_features)
        return _OneDNN.apply(rows, self.weight, self.bias).view(*x.shape[:-1], self.out_features)


def use_onednn(network: nn.Module) -> None:
    """Turn every ``nn.Linear`` of a network into a ``Linear``; subclasses stay as they are."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def _is_for_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.T) if needs_rows else None,
            _product(grad.T, rows.T) if needs_weight else None,
            grad.sum(dim=0) if needs_bias else None,
        )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias``."""
    # torch's only operator for a dense product in oneDNN; torch.compile generates calls of it
    return torch.ops.mkldnn._linear_pointwise(
        rows.contiguous(), weight.contiguous(), bias, "none", [], ""
    )
