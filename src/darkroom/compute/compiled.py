"""torch.compile with the settings of a training."""

from typing import Literal

import torch
from torch import nn


def compiled(model: nn.Module, mode: Literal["default", "cuda_graphs"] | None) -> nn.Module:
    """Return ``model`` compiled by torch.compile, with shared weights, or itself if ``mode`` is None.

    Args:
        mode: ``cuda_graphs`` records the kernels of a pass once and replays them without Python.
    """
    if mode is None:
        return model
    # set_determinism does not set the compiler's own flag, because that would import the compiler
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    # there are two batch sizes, which differ by one image; each has a graph of its own
    name = "reduce-overhead" if mode == "cuda_graphs" else "default"
    network: nn.Module = torch.compile(model, mode=name, dynamic=False)  # type: ignore[assignment]
    return network
