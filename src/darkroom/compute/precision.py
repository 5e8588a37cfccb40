"""The precision of convolutions and matrix products: which ones a device computes fast, and how."""

import re
from collections.abc import Set
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch

from darkroom.errors import UserError

Precision = Literal["float32", "bfloat16", "float16"]

FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags of CPUs with instructions for bfloat16; the last one is ARM's."""


def check_precision(
    precision: Precision, device: torch.device, is_pinned: bool, flags: Set[str]
) -> None:
    """Refuse a precision that the device does not compute faster than float32.

    On a CPU without such instructions, each product is made of conversions: a training step takes up to
    ten times as long as in float32 (pytorch#146508).

    Args:
        is_pinned: whether the CPU's instruction set is pinned, to one without such instructions.
        flags: of the CPU, as ``cpu_flags`` returns them.

    Raises:
        UserError: the precision is refused; the message says what is possible instead.
    """
    if precision == "float32":
        return
    if device.type == "cuda":
        _check_gpu(precision, device)
    elif device.type == "cpu":
        _check_cpu(precision, is_pinned, not FAST_BFLOAT16.isdisjoint(flags))


def _check_gpu(precision: Precision, device: torch.device) -> None:
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"train.precision: bfloat16 is not supported by {torch.cuda.get_device_name(device)}; it"
            " must be float32 or float16"
        )


def _check_cpu(precision: Precision, is_pinned: bool, has_bfloat16: bool) -> None:
    if precision == "bfloat16" and has_bfloat16:
        if not is_pinned:
            return
        why = "train.deterministic: true limits it to AVX2, which has no fast instructions for it"
        instead = "float32, or train.deterministic must be false"
    else:
        why = "this one has no fast instructions for it"
        instead = "float32 or bfloat16" if has_bfloat16 and not is_pinned else "float32"
    raise UserError(
        f"train.precision: {precision} is not allowed on a CPU, because {why}: a step would take up to"
        f" ten times as long as in float32. On this machine it must be {instead}; on a GPU,"
        f" {precision} is fast"
    )


def cpu_flags() -> set[str]:
    """Return the names of the CPU's features, such as ``avx2``; empty if they are not known."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", facts, flags=re.MULTILINE)
    return set(found[1].split()) if found else set()


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """Return the context in which convolutions and matrix products have the given precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))
