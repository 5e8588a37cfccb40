"""How many images a step takes, where memory decides it."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from darkroom.compute.device import is_out_of_memory
from darkroom.errors import UserError

AUTO_MOST = 1024
"""More images a step make training faster only where it is tuned for them."""

AUTO_LEAST_STEPS = 20
"""An epoch has at least so many steps, else too little is learnt in it."""

AUTO_ON_CPU = 64
"""A CPU gains nothing from more."""

LARGEST_SHARE = 0.9
"""Of a GPU's memory; the rest is for what differs between steps."""


def settle_batch_size(
    asked: Literal["auto"] | int, model: nn.Module, image_shape: Sequence[int], num_images: int
) -> int:
    """Returns the batch size that ``asked`` means for ``model`` on its device.

    ``auto`` is a power of two: the largest at which a step fits into the GPU's memory, at most 1024
    and a twentieth of the images.

    Args:
        image_shape: ``(channels, height, width)``.
        num_images: for training.
    """
    if asked != "auto":
        return asked
    most = min(AUTO_MOST, _power_of_two(num_images // AUTO_LEAST_STEPS))
    if next(model.parameters()).device.type != "cuda":
        return min(AUTO_ON_CPU, most)
    return largest_fitting(most, lambda size: _step_fits(model, image_shape, size))


def out_of_memory(model: nn.Module, images: torch.Tensor, micro_batches: int) -> UserError:
    """Returns the message for a step on ``images`` that did not fit, with sizes that do."""
    at_once = -(-len(images) // micro_batches)
    pixels = f"{images.shape[2]} x {images.shape[3]} pixels"
    if at_once == 1:
        return UserError(
            f"train: not even one image of {pixels} fits into the memory of {images.device}; take a "
            "smaller model, or a smaller prepare.image_size"
        )
    fitting = largest_fitting(
        _power_of_two(at_once - 1), lambda size: _step_fits(model, images.shape[1:], size)
    )
    return UserError(
        f"train: {at_once} images of {pixels} at once do not fit into the memory of {images.device}; "
        f"train.batch_size: {fitting * micro_batches} would fit "
        f"(auto finds the largest), or {len(images)} with train.micro_batches: "
        f"{-(-len(images) // fitting)}"
    )


def largest_fitting(most: int, fits: Callable[[int], bool]) -> int:
    """Returns the first of ``most``, its half, its quarter, ..., 1 that fits; 1 if none does."""
    size = most
    while size > 1 and not fits(size):
        size //= 2
    return size


def _power_of_two(number: int) -> int:
    """Returns the largest power of two up to ``number``, at least 1."""
    return 1 << max(number.bit_length() - 1, 0) if number > 0 else 1


def _step_fits(model: nn.Module, image_shape: Sequence[int], size: int) -> bool:
    """Learns from blank images with a copy of ``model``; the copy stands for what an optimizer holds."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        trial = copy.deepcopy(model).train()
        images = torch.zeros((size, *image_shape), dtype=torch.uint8, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        targets = torch.zeros(size, dtype=torch.int64, device=device)
        F.cross_entropy(trial(images), targets).backward()
        if not on_gpu:
            return True
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device) <= LARGEST_SHARE * total
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        trial = images = targets = None  # type: ignore[assignment]
        if on_gpu:
            torch.cuda.empty_cache()
