"""Times the stages of the pipeline as params.yaml has it.

Prints one JSON line and adds it to benchmarks/results/pipeline.jsonl. Run it with `make bench`, after
`make repro`, on a machine that does nothing else.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from machine import hardware, keep

STAGES = ("prepare", "train", "evaluate", "export")


def stage_seconds() -> dict[str, float]:
    """Runs each stage once, as DVC would, and returns wall seconds, start of Python included."""
    seconds = {}
    for stage in STAGES:
        began = time.perf_counter()
        subprocess.run([sys.executable, f"stages/{stage}.py"], check=True, stdout=subprocess.DEVNULL)
        seconds[stage] = round(time.perf_counter() - began, 2)
    return seconds


def main() -> None:
    seconds = stage_seconds()
    result = {
        "stage_seconds": seconds,
        "data": json.loads(Path("data/prepared/dataset.json").read_text())["digest"],
        "environment": json.loads(Path("environment.json").read_text()),
        **hardware(),
    }
    keep("pipeline", result)


if __name__ == "__main__":
    main()
