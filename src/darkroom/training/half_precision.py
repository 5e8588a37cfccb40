"""Half precision on a CPU: whether it is faster than float32 there is measured, not known."""

import copy
import time

import torch
from torch import nn

from darkroom.compute.precision import Precision, autocast

MAX_IMAGES = 8
"""Enough to compare two precisions, and few enough to take little time."""


def compare_with_float32(
    model: nn.Module, precision: Precision, image_shape: tuple[int, ...], batch_size: int
) -> str:
    """Return a sentence that says whether a training step is faster in ``precision`` or in float32.

    The model, its gradients and torch's random numbers stay as they are.

    Args:
        model: on the CPU.
        image_shape: ``(channels, height, width)``.
    """
    images = torch.zeros(min(batch_size, MAX_IMAGES), *image_shape, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        trial = copy.deepcopy(model).train()
        ours, float32 = (_step_seconds(trial, images, kind) for kind in (precision, "float32"))
    faster, slower = (precision, "float32") if ours < float32 else ("float32", precision)
    ratio = max(ours, float32) / min(ours, float32)
    return (
        f"train.precision is {precision}; on this CPU, a step in {faster} is {ratio:.1f} times as fast"
        f" as in {slower}"
    )


def _step_seconds(model: nn.Module, images: torch.Tensor, precision: Precision) -> float:
    """Return the seconds of a second step: the first one also prepares the kernels."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        with autocast(images.device, precision):
            outputs = model(images)
        outputs.float().square().mean().backward()
        seconds = time.perf_counter() - began
    return seconds
