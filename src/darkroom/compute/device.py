"""Select the device that computes, and recognise that its memory is exhausted."""

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


_OUT_OF_MEMORY = (
    "can't allocate memory",  # on a CPU
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # cuBLAS had no memory for its workspace (pytorch#20517)
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the error is a failed allocation, on a GPU (by any library) or a CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)
