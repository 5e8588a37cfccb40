"""Measures what linear layers through oneDNN give a vision transformer on a CPU.

    python benchmarks/linear.py [--models vit timm:vit_small_patch16_224] [--repeats 9]

Three processes take turns with the same model: ``onednn`` (darkroom's layers, the instruction set
pinned), ``mkl`` (``nn.Linear``, pinned) and ``unpinned`` (``nn.Linear``, with the fastest kernels).

Adds a JSON line a model to benchmarks/results/linear.jsonl: medians of the ratios of images/s of
training steps and of inference to those of ``unpinned``; also of images per CPU second, which other work
on the machine changes less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from machine import hardware_of_training, keep, num_cores

from darkroom.compute.determinism import INSTRUCTION_SET, configure_libraries

KINDS = ("onednn", "mkl", "unpinned")
SIZES: dict[str, dict[str, Any]] = {
    "vit": {"input_size": (32, 32), "patch_size": 4, "width": 192, "depth": 6, "batch_size": 32},
    "timm:vit_small_patch16_224": {"input_size": (224, 224), "batch_size": 4},
}
STEPS = {"train": 3, "inference": 6}


def serve(kind: str, name: str) -> None:
    """Answers each line of stdin with images/s and images per CPU second of a few steps."""
    configure_libraries(deterministic=kind != "unpinned")
    import torch
    import torch.nn.functional as F
    from torch import nn

    from darkroom.catalogue.counting import blank_spec
    from darkroom.compute.determinism import set_determinism
    from darkroom.models.factory import make_classifier

    size = SIZES[name]
    set_determinism(0, num_cores(), deterministic=kind != "unpinned")
    spec = blank_spec(
        name=name,
        width=size.get("width"),
        depth=size.get("depth"),
        patch_size=size.get("patch_size"),
        num_classes=10,
        input_size=size["input_size"],
        channels=3,
    )
    model = make_classifier(spec).to(memory_format=torch.channels_last)
    for module in model.modules():
        if kind != "onednn" and isinstance(module, nn.Linear):
            module.__class__ = nn.Linear
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randint(0, 256, (size["batch_size"], 3, *size["input_size"]), dtype=torch.uint8)
    targets = torch.arange(size["batch_size"]) % 10

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()

    @torch.inference_mode()
    def inference() -> None:
        model(images)

    for step in (train, inference, train, inference):
        step()
    print("ready", flush=True)
    while sys.stdin.readline():
        figures = {}
        for step in (train, inference):
            num_images = STEPS[step.__name__] * size["batch_size"]
            began, began_cpu = time.perf_counter(), time.process_time()
            for _ in range(STEPS[step.__name__]):
                step()
            figures[step.__name__] = num_images / (time.perf_counter() - began)
            figures[f"{step.__name__}_per_cpu_second"] = num_images / (time.process_time() - began_cpu)
        print(json.dumps(figures), flush=True)


def compare(name: str, repeats: int) -> dict[str, Any]:
    unpinned = {key: value for key, value in os.environ.items() if key not in INSTRUCTION_SET}
    children = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--child", kind, "--models", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=unpinned,
        )
        for kind in KINDS
    }
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for child in children.values():
        child.stdout.readline()  # type: ignore[union-attr]
    for _ in range(repeats):
        for kind, child in children.items():
            child.stdin.write("\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
            found[kind].append(json.loads(child.stdout.readline()))  # type: ignore[union-attr]
    for child in children.values():
        child.communicate()
    line: dict[str, Any] = {"model": name, **SIZES[name], "repeats": repeats, "threads": num_cores()}
    for figure in found["unpinned"][0]:
        rates = {kind: [turn[figure] for turn in found[kind]] for kind in KINDS}
        for kind in KINDS[:2]:
            ratios = [a / b for a, b in zip(rates[kind], rates["unpinned"], strict=True)]
            line[f"{figure}_{kind}_over_unpinned"] = round(statistics.median(ratios), 3)
        line[f"{figure}_unpinned"] = round(statistics.median(rates["unpinned"]), 1)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        serve(args.child, args.models[0])
        return
    configure_libraries()
    machine = hardware_of_training("cpu")
    for name in args.models:
        keep("linear", {**compare(name, args.repeats), **machine})


if __name__ == "__main__":
    main()
