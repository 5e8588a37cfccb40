"""The same bytes from the same inputs: everything that must be settled before torch computes."""

import os
import platform

INSTRUCTION_SET = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""AVX2 and AVX-512 round sums differently; with these, both machines compute as one with AVX2.

MKL (the matrix products of linear layers) refuses its AVX2 branch on processors that are not
Intel's, so the one that it promises to be the same everywhere is asked for. OpenBLAS is NumPy's
and SciPy's; its kernels for Haswell need AVX2.
"""


def configure_libraries(deterministic: bool = True) -> None:
    """Sets the environment variables that libraries read once, as they load.

    ``run_stage`` calls this before anything imports torch.

    Args:
        deterministic: pin the CPU's instruction set; ``False`` lets libraries take what is fastest.
    """
    if deterministic and platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.update(INSTRUCTION_SET)
    # Idle threads spin; at libgomp's own count of 300,000 two trainings on one machine slow each
    # other down 20-fold, at this one 4-fold, and a lone training loses nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS asks for it


def set_determinism(seed: int, num_threads: int, deterministic: bool = True, tf32: bool = False) -> None:
    """Seeds torch, sets its threads, and picks deterministic kernels. Call it before torch computes.

    Args:
        seed: of torch's global generator, which draws the initial weights.
        num_threads: CPU threads of a computation; another number rounds differently.
        deterministic: ``False`` allows faster kernels whose sums depend on the order of threads, and
            the CPU's whole instruction set.
        tf32: let a GPU round the factors of float32 products to 10 bits.
    """
    configure_libraries(deterministic)
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(num_threads)
    # use_deterministic_algorithms does the same, and imports torch's compiler to tell it too
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # else every torch.empty is filled first, to no use here
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def instruction_set() -> str:
    """Returns the CPU instruction set that torch computes with, as ``avx2``."""
    import torch

    return torch.backends.cpu.get_cpu_capability().lower()
