"""Load of CPU, memory, disk, network and GPUs while a stage runs, under MLflow's own names."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from darkroom.tracking.run import warn

if TYPE_CHECKING:
    from darkroom.tracking.run import Run

PERIOD_SECONDS = 10.0

LAST_SECONDS = 1.0
"""Maximum time that a stage waits at its end for the last measurement."""


@contextmanager
def system_metrics(run: "Run") -> Iterator[None]:
    """Log the machine's load until the block ends, and once more then. The work never waits for it."""
    watch = _Watch(run)
    try:
        yield
    finally:
        watch.end()


class _Watch:
    """A thread that measures the load at intervals."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._mutex = threading.Lock()
        self._is_over = threading.Event()
        self._has_ended = False
        self._thread = threading.Thread(target=self._watch, name="system-metrics", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            look, is_over = _Look(), False
            while not is_over:
                is_over = self._is_over.wait(PERIOD_SECONDS)
                self._log(look())
        except Exception as error:  # of any kind: an observer must not stop the work
            warn("the machine's load is not logged any more", error)

    def _log(self, load: dict[str, float]) -> None:
        with self._mutex:
            if not self._has_ended:
                # by time: a training that is resumed must not start again at step 0
                self._run.log_metrics(load, step=int(time.time()))

    def end(self) -> None:
        """Stop logging, even if a driver blocks the thread."""
        self._is_over.set()
        self._thread.join(LAST_SECONDS)
        with self._mutex:
            self._has_ended = True


class _Look:
    """Measures the load since the previous measurement."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent()  # the first call starts the interval, per thread
        self._network = psutil.net_io_counters()

    def __call__(self) -> dict[str, float]:
        memory, disk = self._psutil.virtual_memory(), self._psutil.disk_usage(".")
        load = {
            "cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            **_load_of_gpus(),
        }
        if self._network is not None and (network := self._psutil.net_io_counters()) is not None:
            received = network.bytes_recv - self._network.bytes_recv
            load["network_receive_megabytes"] = received / 1e6
            load["network_transmit_megabytes"] = (network.bytes_sent - self._network.bytes_sent) / 1e6
        return {f"system/{name}": round(value, 1) for name, value in load.items()}


def _load_of_gpus() -> dict[str, float]:
    """Return the load of the GPUs that the stage uses.

    Nothing here calls CUDA, which would claim memory on each GPU and disturb the capture of a graph.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    load: dict[str, float] = {}
    for i in range(torch.cuda.device_count()):
        reserved = torch.cuda.memory_reserved(i)
        if not reserved:
            continue
        load[f"gpu_{i}_memory_usage_megabytes"] = reserved / 1e6
        total = torch.cuda.get_device_properties(i).total_memory
        load[f"gpu_{i}_memory_usage_percentage"] = 100 * reserved / total
        with suppress(ModuleNotFoundError, RuntimeError):  # they need NVIDIA's management library
            load[f"gpu_{i}_utilization_percentage"] = torch.cuda.utilization(i)
            load[f"gpu_{i}_power_usage_watts"] = torch.cuda.power_draw(i) / 1_000
    return load
