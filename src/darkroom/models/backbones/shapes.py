"""Output sizes of convolutions and poolings, and the minimum image size of a network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from darkroom.errors import UserError


class Window(NamedTuple):
    """The window of a convolution or a pooling along one side, in pixels."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


def output_size(size: int, windows: Sequence[Window]) -> int:
    """Return the output size for ``size`` pixels after all ``windows``.

    The formula is that of ``torch.nn.Conv2d`` and ``torch.nn.MaxPool2d``; the result is 0 or less if a
    window is larger than its input.
    """
    for window in windows:
        kernel = window.dilation * (window.kernel - 1) + 1
        size = (size + 2 * window.padding - kernel) // window.stride + 1
        if size < 1:
            return size
    return size


def least_size(windows: Sequence[Window]) -> int:
    """Return the minimum size for which the output of ``windows`` is not empty."""
    size = 1
    while output_size(size, windows) < 1:
        size += 1
    return size


def require_size(name: str, input_size: tuple[int, int], windows: Sequence[Window]) -> None:
    """Check that images are large enough for the model called ``name``.

    Raises:
        UserError: they are not; the message says the minimum size.
    """
    least = least_size(windows)
    if min(input_size) < least:
        height, width = input_size
        raise UserError(
            f"model.name: {name} of this depth needs images of at least {least} x {least} pixels, but "
            f"they have {height} x {width}; set prepare.image_size (and train.image_size) to "
            f"{least} or more, or lower model.depth"
        )


def require_multiples(name: str, input_size: tuple[int, int], windows: Sequence[Window]) -> None:
    """Check that halving images with ``windows`` and doubling them as often restores their size.

    A transposed convolution with a kernel and a stride of 2 returns ``(size - 1) * 2 + 2`` pixels, twice
    as many as it gets. A half that was rounded down is therefore not restored.

    Raises:
        UserError: the size is not restored; the message has the closest sizes that are.
    """
    factor = 2 ** len(windows)
    if all(output_size(size, windows) * factor == size for size in input_size):
        return
    height, width = input_size
    sides = [
        sorted({max(size // factor, 1) * factor, -(-size // factor) * factor}) for size in input_size
    ]
    closest = " and ".join(
        f"{' or '.join(map(str, side))} for the {name_of_side}"
        for side, name_of_side in zip(sides, ("height", "width"), strict=True)
    )
    raise UserError(
        f"model.name: {name} of this depth halves images {len(windows)} times, so both sides must be "
        f"multiples of {factor} pixels, but images have {height} x {width}; set prepare.image_size (and "
        f"train.image_size) to multiples of {factor} ({closest}), or lower model.depth"
    )


class ShapesOnly(TorchFunctionMode):
    """Create networks on the ``meta`` device within a block, without memory for their weights.

    Unlike ``torch.device("meta")``, this does not affect the arithmetic with which some libraries
    compute the number of layers.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
