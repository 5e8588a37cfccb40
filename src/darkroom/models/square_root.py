"""Square roots that have the same bits on every CPU.

On a CPU, ``torch.sqrt`` is a function of MKL, which starts from the processor's own approximation of
1 / sqrt(x); these differ between makers, and so do the last bits of the result, whatever ``MKL_CBWR``
is. ``torch.rsqrt`` divides 1 by the exact root, in torch's own code (docs/decisions/0070).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def square_root(x: Tensor) -> Tensor:
    """Return the square root of each value, within two units in the last place; NaN below 0."""
    return x.rsqrt().reciprocal()


class SquareRoots(TorchFunctionMode):
    """A block in which the Python code of a library, such as an optimizer, uses ``square_root`` on CPUs.

    It applies to ``sqrt`` of single tensors and of lists, also in place.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _REPLACED and not kwargs and _is_on_cpu(args[0]):
            return _REPLACED[func](*args)
        return func(*args, **(kwargs or {}))


def _is_on_cpu(given: Tensor | Sequence[Tensor]) -> bool:
    tensors = [given] if isinstance(given, Tensor) else given
    return all(x.device.type == "cpu" for x in tensors)


def _in_place(x: Tensor) -> Tensor:
    return x.rsqrt_().reciprocal_()


def _of_each(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [square_root(x) for x in tensors]


def _of_each_in_place(tensors: Sequence[Tensor]) -> None:
    for x in tensors:
        _in_place(x)


_REPLACED: dict[Any, Callable[..., Any]] = {
    torch.sqrt: square_root,
    Tensor.sqrt: square_root,
    Tensor.sqrt_: _in_place,
    torch._foreach_sqrt: _of_each,
    torch._foreach_sqrt_: _of_each_in_place,
}
