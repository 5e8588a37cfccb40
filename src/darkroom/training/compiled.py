"""The model as torch.compile makes it."""

from typing import Literal

import torch
from torch import nn


def compiled(model: nn.Module, how: Literal["default", "cuda_graphs"] | None) -> nn.Module:
    """Returns ``model`` compiled, sharing its weights, or itself where ``how`` is None.

    Args:
        how: ``cuda_graphs`` records the kernels of a pass once, and replays them without Python.
    """
    if how is None:
        return model
    torch.use_deterministic_algorithms(
        torch.are_deterministic_algorithms_enabled()
    )  # the compiler's too
    # batches are of two sizes, which differ by one image; each has a graph of its own
    mode = "reduce-overhead" if how == "cuda_graphs" else "default"
    compiled_model: nn.Module = torch.compile(model, mode=mode, dynamic=False)  # type: ignore[assignment]
    return compiled_model
