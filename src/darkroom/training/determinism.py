"""The same bytes from the same inputs: everything that must be settled before torch computes."""

import os
import platform

INSTRUCTION_SET = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
}
"""AVX2 and AVX-512 round sums differently; with these, both machines compute as one with AVX2."""


def pin_cpu() -> None:
    """Sets the environment variables that libraries read once, as they load.

    ``run_stage`` calls this before anything imports torch.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.update(INSTRUCTION_SET)
    # Idle threads spin; at libgomp's own count of 300,000 two trainings on one machine slow each
    # other down 20-fold, at this one 4-fold, and a lone training loses nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS asks for it


def set_determinism(seed: int, num_threads: int, deterministic: bool = True) -> None:
    """Seeds torch, sets its threads, and picks deterministic kernels. Call it before torch computes.

    Args:
        seed: of torch's global generator, which draws the initial weights.
        num_threads: CPU threads of a computation; another number rounds differently.
        deterministic: ``False`` allows faster kernels whose sums depend on the order of threads.
    """
    pin_cpu()
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(deterministic)
    # else every torch.empty is filled first, to no use here
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def instruction_set() -> str:
    """Returns the CPU instruction set that torch computes with, as ``avx2``."""
    import torch

    return torch.backends.cpu.get_cpu_capability().lower()
