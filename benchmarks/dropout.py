"""Measures dropout on a CPU: torch's and ours, by number of elements.

    python benchmarks/dropout.py [--rounds 7]

They take turns, on one core; times are medians over the rounds, in milliseconds per call.

Prints a line, and adds it to benchmarks/results/dropout.jsonl.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from machine import hardware_of_training, keep
from torch import nn

from darkroom.compute.determinism import configure_libraries
from darkroom.loading.threads import threads
from darkroom.models.backbones.layers import Dropout

NUM_ELEMENTS = (10_240, 163_840, 2_621_440)
KINDS = {"torch": nn.Dropout(0.5), "ours": Dropout(0.5)}
NUM_CALLS = 20


def measure(num_elements: int, rounds: int) -> dict[str, Any]:
    """Returns the times of both, and how many times longer torch's takes."""
    x = torch.randn(num_elements)
    times: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name, dropout in KINDS.items():
            dropout(x)
            began = time.perf_counter()
            for _ in range(NUM_CALLS):
                dropout(x)
            times[name].append((time.perf_counter() - began) / NUM_CALLS * 1_000)
    found = {name: statistics.median(values) for name, values in times.items()}
    ratio = round(found["torch"] / found["ours"], 2)
    shown = {name: round(value, 3) for name, value in found.items()}
    return {"elements": num_elements, **shown, "torch_over_ours": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    configure_libraries()
    with threads(1):
        figures = {"milliseconds": [measure(size, args.rounds) for size in NUM_ELEMENTS]}
    keep("dropout", {**figures, **hardware_of_training("cpu")}, args.dry)


if __name__ == "__main__":
    main()
