"""Settings that make torch repeat its results; they must be made before it computes."""

import os
import platform

INSTRUCTION_SET = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""AVX2 and AVX-512 round sums differently; with these, all machines compute as with AVX2.

MKL (matrix products of linear layers) does not use its AVX2 code on processors of other vendors than
Intel, so its mode that is the same everywhere is chosen. NumPy's exponential functions and logarithms
have other last bits with AVX-512, so NumPy may not use it. OpenBLAS belongs to NumPy and SciPy; its
kernels for Haswell need AVX2.
"""


def configure_libraries(deterministic: bool = True) -> None:
    """Set the environment variables that libraries read once, when they are loaded.

    ``run_stage`` calls this before anything imports torch.

    Args:
        deterministic: pin the CPU's instruction set; if false, libraries choose the fastest one.
    """
    if is_pinned(deterministic):
        os.environ.update(INSTRUCTION_SET)
    # Idle threads spin. With libgomp's default of 300,000, two trainings on one machine slow each other
    # down 20-fold, with this value 4-fold; a single training is as fast as before.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by deterministic cuBLAS


def is_pinned(deterministic: bool) -> bool:
    """Return whether ``configure_libraries`` pins this machine's instruction set."""
    return deterministic and platform.machine().lower() in ("x86_64", "amd64")


def set_determinism(seed: int, num_threads: int, deterministic: bool = True, tf32: bool = False) -> None:
    """Seed torch, set its number of threads, and choose deterministic kernels, before torch computes.

    Args:
        seed: of torch's global generator, which draws the initial weights.
        num_threads: CPU threads per computation; another number changes the rounding.
        deterministic: if false, allow faster kernels whose sums depend on the order of threads, and the
            CPU's full instruction set.
        tf32: let a GPU round the factors of float32 products to 10 bits.
    """
    configure_libraries(deterministic)
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(num_threads)
    # the same as use_deterministic_algorithms, which would also import torch's compiler
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # else every torch.empty is filled, which is not needed here
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def instruction_set() -> str:
    """Return the CPU instruction set that torch uses, such as ``avx2``."""
    import torch

    return torch.backends.cpu.get_cpu_capability().lower()
