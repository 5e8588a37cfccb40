"""What figures were measured on, and where they are kept: shared by the benchmarks."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def num_cores() -> int:
    """Returns the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Returns the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """Returns processor, cores and Python of this machine."""
    return {"cpu": cpu_name(), "cores": num_cores(), "python": platform.python_version()}


def hardware_of_training(device: str) -> dict[str, Any]:
    """Returns hardware, versions and fingerprint of what trains on ``device``.

    Where packages are missing that train does not need, the fingerprint is None.
    """
    import torch

    from darkroom.compute.environment import describe_environment, fingerprint

    try:
        environment = describe_environment(torch.device(device))
        name = fingerprint(environment)
    except PackageNotFoundError:
        environment = {"torch": torch.__version__}
        name = None
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {"device": device, **gpu, **hardware(), "versions": environment, "fingerprint": name}


def keep(name: str, figures: dict[str, Any], dry: bool = False) -> None:
    """Prints a line, and unless ``dry``, adds it with the date to ``benchmarks/results/NAME.jsonl``."""
    line = json.dumps({**figures, "date": f"{datetime.now(UTC):%Y-%m-%d}"})
    print(line, flush=True)
    if dry:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def kept(name: str) -> list[dict[str, Any]]:
    """Returns the lines that ``keep`` has added, the newest last."""
    lines = (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def describe(line: dict[str, Any]) -> str:
    """Names the hardware of a line."""
    if "gpu" in line:
        return str(line["gpu"])
    cpu = re.sub(r"\((R|TM)\)| Processor.*| CPU.*", "", line["cpu"])
    return f"{cpu}, {line['cores']} cores"
