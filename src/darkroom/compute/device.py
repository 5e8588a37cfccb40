"""The device that computes, and errors of its memory."""

import torch

from darkroom.errors import UserError


def select_device(name: str) -> torch.device:
    """Return the device called ``name``; for ``auto`` the first available of CUDA, MPS and CPU.

    Raises:
        UserError: the device is not available.
    """
    is_available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    available = [device for device, is_there in is_available.items() if is_there]
    if name == "auto":
        return torch.device(available[0])
    if not is_available[name]:
        raise UserError(
            f"environment: DARKROOM_DEVICE={name} is not available on this machine, only "
            f"{', '.join(available)}"
        )
    return torch.device(name)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the error is a failed allocation, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
