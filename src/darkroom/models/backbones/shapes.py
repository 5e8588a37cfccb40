"""Sizes of what convolutions and poolings make, and the smallest image that a network can take."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from darkroom.errors import UserError


class Window(NamedTuple):
    """What a convolution or a pooling looks at, along one side, in pixels."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


def output_size(size: int, windows: Sequence[Window]) -> int:
    """Returns the side of what is left of ``size`` pixels after ``windows``, one after the other.

    The formula is that of ``torch.nn.Conv2d`` and ``torch.nn.MaxPool2d``; 0 or less where a window
    is larger than what it should look at.
    """
    for window in windows:
        kernel = window.dilation * (window.kernel - 1) + 1
        size = (size + 2 * window.padding - kernel) // window.stride + 1
        if size < 1:
            return size
    return size


def least_size(windows: Sequence[Window]) -> int:
    """Returns the smallest side of which ``windows`` leave something."""
    size = 1
    while output_size(size, windows) < 1:
        size += 1
    return size


def require_size(name: str, input_size: tuple[int, int], windows: Sequence[Window]) -> None:
    """Refuses images that are too small for the model called ``name``.

    Raises:
        UserError: with the least size.
    """
    least = least_size(windows)
    if min(input_size) < least:
        height, width = input_size
        raise UserError(
            f"model.name: {name} of this depth needs images of at least {least} x {least} pixels, and "
            f"they have {height} x {width}; set prepare.image_size to {least} or more, or lower "
            "model.depth"
        )


class ShapesOnly(TorchFunctionMode):
    """Within it, networks are made without memory for their weights, on the ``meta`` device.

    Unlike ``torch.device("meta")`` it leaves the arithmetic with which some libraries find out how
    many layers there are.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
