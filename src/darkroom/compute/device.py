"""Where the model runs, and whether its memory is exhausted."""

import torch

from darkroom.errors import UserError


def select_device(wanted: str) -> torch.device:
    """Returns the device called ``wanted``; for ``auto`` CUDA if there is one, else MPS, else CPU.

    Raises:
        UserError: the device asked for is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, available in there.items() if available))
    if not there[wanted]:
        available = ", ".join(name for name, is_there in there.items() if is_there)
        raise UserError(f"environment: DARKROOM_DEVICE={wanted}, but here is only {available}")
    return torch.device(wanted)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tells whether an allocation failed, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
