"""The exponential moving average of a model's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a model whose weights are the exponential moving average of the model's.

    The decay rises to ``decay`` with the number of updates, so that a short training does not keep its
    first weights. The rule is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    Buffers are copied, not averaged.

    The arithmetic is that of ``torch.optim.swa_utils.AveragedModel``, which would wait for a GPU once
    per parameter and step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.module.requires_grad_(False)
        self._decay = decay
        self._num_updates = 0
        self._averaged: list[Tensor] = list(self.module.parameters())
        self._current: list[Tensor] = list(model.parameters())
        pairs = list(zip(self.module.buffers(), model.buffers(), strict=True))
        # one call of torch copies tensors of one dtype
        dtypes = {buffer.dtype for buffer, _ in pairs}
        self._buffers: list[list[tuple[Tensor, Tensor]]] = [
            [pair for pair in pairs if pair[0].dtype == dtype] for dtype in sorted(dtypes, key=str)
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Add the model's present weights to the average; the first ones are the average."""
        count = self._num_updates
        if count == 0:
            torch._foreach_copy_(self._averaged, self._current)
        else:
            decay = min(self._decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for pairs in self._buffers:
            torch._foreach_copy_([copied for copied, _ in pairs], [buffer for _, buffer in pairs])
        self._num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors; the tensors are the average's own, not copies."""
        return {"module": self.module.state_dict(), "num_updates": self._num_updates}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.module.load_state_dict(values["module"])
        self._num_updates = values["num_updates"]
