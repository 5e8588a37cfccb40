"""The batch size, if it depends on the available memory."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from darkroom.compute.device import is_out_of_memory
from darkroom.compute.precision import Precision, autocast
from darkroom.errors import UserError

AUTO_MAX = 1024
"""Larger batches speed up training only if its other parameters are tuned for them."""

AUTO_MIN_STEPS = 20
"""Minimum number of steps per epoch; with fewer, too little is learned in an epoch."""

AUTO_ON_CPU = 64
"""Larger batches are not faster on a CPU."""

MAX_SHARE = 0.9
"""Maximum share of a GPU's memory; the rest is for the differences between steps."""


def settle_batch_size(
    value: Literal["auto"] | int,
    model: nn.Module,
    image_shape: Sequence[int],
    num_images: int,
    precision: Precision,
) -> int:
    """Return ``value``, or the batch size that ``auto`` stands for.

    This is the largest power of two with which a step fits into the GPU's memory, up to 1024 and a
    twentieth of the training images. The images that are kept on the GPU must be there already.

    Args:
        image_shape: ``(channels, height, width)``.
        num_images: number of training images.
        precision: of the training's steps.
    """
    if value != "auto":
        return value
    limit = min(AUTO_MAX, _power_of_two(num_images // AUTO_MIN_STEPS))
    if next(model.parameters()).device.type != "cuda":
        return min(AUTO_ON_CPU, limit)
    return largest_fitting(limit, lambda size: _step_fits(model, image_shape, size, precision))


def out_of_memory(
    model: nn.Module, images: torch.Tensor, micro_batches: int, precision: Precision
) -> UserError:
    """Return the error for a step on ``images`` that ran out of memory; it names sizes that fit."""
    at_once = -(-len(images) // micro_batches)
    if images.ndim == 2:
        return UserError(
            f"train: the features of {at_once} images at once do not fit into the memory of "
            f"{images.device}; lower train.batch_size"
        )
    pixels = f"{images.shape[2]} x {images.shape[3]} pixels"
    if at_once == 1:
        return UserError(
            f"train: not even one image of {pixels} fits into the memory of {images.device}; choose a "
            "smaller model or smaller images (train.image_size, prepare.image_size)"
        )
    fitting = largest_fitting(
        _power_of_two(at_once - 1), lambda size: _step_fits(model, images.shape[1:], size, precision)
    )
    return UserError(
        f"train: {at_once} images of {pixels} at once do not fit into the memory of {images.device}; "
        f"train.batch_size: {fitting * micro_batches} would fit "
        f"(auto finds the largest), or {len(images)} with train.micro_batches: "
        f"{-(-len(images) // fitting)}"
    )


def largest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """Return the first of ``size``, its half, its quarter, ..., 1 that fits; 1 if none does."""
    while size > 1 and not fits(size):
        size //= 2
    return size


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to ``number``, at least 1."""
    return 1 << max(number.bit_length() - 1, 0) if number > 0 else 1


def _step_fits(model: nn.Module, image_shape: Sequence[int], size: int, precision: Precision) -> bool:
    """Try a step on blank images with a copy of ``model``, which stands for the optimizer's state."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        trial = copy.deepcopy(model).train()
        images = torch.zeros((size, *image_shape), dtype=torch.uint8, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            logits = trial(images)
            # one class per image, or per pixel if the model predicts masks
            targets = torch.zeros_like(logits[:, 0], dtype=torch.int64)
            loss = F.cross_entropy(logits, targets)
        loss.backward()
        if not on_gpu:
            return True
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device) <= MAX_SHARE * total
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        trial = images = logits = targets = loss = None  # type: ignore[assignment]
        if on_gpu:
            torch.cuda.empty_cache()
