"""Checks and measures on a CUDA GPU what its tests do not: see tools/gpu.sh.

    python benchmarks/gpu.py [--parts models steps matrix] [--device cuda] [--models NAME ...]
                             [--sizes cifar resnet50] [--seconds 2]

- ``models``: forward and backward of every network of torchvision and of darkroom's own, with
  deterministic algorithms only; names those that raise;
- ``steps``: a step of every optimizer in every precision, with and without averaged weights, while every
  wait for the GPU raises; names those that do. float16 waits by design: its scaler looks for infinities;
- ``matrix``: images/s of training steps, {eager, compiled, CUDA graphs} x {float32, TF32, bfloat16} x
  {channels first, channels last}, in turns.

Adds a JSON line a part (and size) to benchmarks/results/gpu.jsonl. ``--device cpu`` tries the script.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from machine import hardware_of_training, keep, num_cores

from darkroom.compute.determinism import configure_libraries

configure_libraries()  # before torch loads

import torch  # noqa: E402
from training import (  # noqa: E402
    SEED,
    TRAIN,
    WORKLOADS,
    Workload,
    make_model,
    make_plain_loss,
    section,
)

from darkroom.compute.compiled import compiled  # noqa: E402
from darkroom.compute.determinism import set_determinism  # noqa: E402
from darkroom.loading.batches import TrainBatch  # noqa: E402
from darkroom.models.backbones.torchvision import list_names  # noqa: E402
from darkroom.training.engine import train_step  # noqa: E402
from darkroom.training.state import TrainingState  # noqa: E402

OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon")
PRECISIONS = ("float32", "bfloat16", "float16")
ADAPTIVE = {"momentum": None, "nesterov": None}
SIDES = {"inception_v3": 299}

Step = Callable[[], None]


def blank_batch(workload: Workload, device: torch.device, memory_format: Any) -> TrainBatch:
    height, width, channels = workload.shape
    shape = (workload.batch_size, channels, height, width)
    images = torch.full(shape, 128, dtype=torch.uint8, device=device)
    targets = torch.zeros(workload.batch_size, dtype=torch.int64, device=device)
    return TrainBatch(images.contiguous(memory_format=memory_format), targets)


def make_step(
    workload: Workload, device: torch.device, memory_format: Any = torch.channels_last, **changes: Any
) -> Step:
    """Returns a function that takes a training step."""
    set_determinism(SEED, num_cores(), True, bool(changes.get("tf32")))
    options = section({**TRAIN, **changes})
    state = TrainingState(make_model(workload).to(device), options, num_steps=1)
    state.model.to(memory_format=memory_format).train()
    network = compiled(state.model, options.compile)
    loss, batch = make_plain_loss(options, device), blank_batch(workload, device, memory_format)
    state.schedule = torch.optim.lr_scheduler.LambdaLR(state.optimizer, lambda step: 1.0)
    return lambda: train_step(state, network, batch, loss, options)


def try_models(names: list[str], device: torch.device) -> dict[str, Any]:
    failed = {}
    for name in names:
        side = SIDES.get(name.partition(":")[2], 224)
        workload = Workload((side, side, 3), name, None, None, batch_size=2, least_steps=1)
        try:
            make_step(workload, device)()
        except Exception as error:  # of any kind: each network is tried
            failed[name] = f"{error}".partition("\n")[0]
    return {"part": "models", "tried": len(names), "failed": failed}


def try_steps(device: torch.device) -> dict[str, Any]:
    # muon needs matrices in the backbone
    workload = Workload((8, 8, 3), "mlp", 32, 2, batch_size=16, least_steps=1)
    failed, kinds = {}, list(itertools.product(OPTIMIZERS, PRECISIONS, (None, 0.9)))
    for optimizer, precision, ema_decay in kinds:
        changes: dict[str, Any] = {} if optimizer == "sgd" else ADAPTIVE
        if optimizer in ("rmsprop", "muon"):
            changes = {"momentum": 0.9, "nesterov": None}
        kind = {"optimizer": optimizer, "precision": precision, "ema_decay": ema_decay}
        try:
            step = make_step(workload, device, clip_norm=1.0, **changes, **kind)
            step()  # the first step allocates
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            step()
        except Exception as error:  # of any kind: each combination is tried
            failed[f"{optimizer} {precision} ema {ema_decay}"] = f"{error}".partition("\n")[0]
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    return {"part": "steps", "tried": len(kinds), "failed": failed}


def measure_matrix(size: str, device: torch.device, seconds: float, repeats: int) -> dict[str, Any]:
    workload = WORKLOADS[size]
    modes = {"eager": None, "compiled": "default", "graphs": "cuda_graphs"}
    kinds: dict[str, dict[str, Any]] = {
        "float32": {},
        "tf32": {"tf32": True},
        "bfloat16": {"precision": "bfloat16"},
    }
    formats = {"first": torch.contiguous_format, "last": torch.channels_last}
    rates: dict[str, float] = {}
    failed: dict[str, str] = {}
    for mode, kind, order in itertools.product(modes, kinds, formats):
        name = f"{mode} {kind} channels {order}"
        try:
            step = make_step(workload, device, formats[order], compile=modes[mode], **kinds[kind])
            blocks = [_rate(step, workload.batch_size, device, seconds) for _ in range(repeats + 1)]
            rates[name] = round(statistics.median(blocks[1:]), 1)
        except Exception as error:  # of any kind: each combination is tried
            failed[name] = f"{error}".partition("\n")[0]
    return {"part": "matrix", "size": size, "images_per_second": rates, "failed": failed}


def _rate(step: Step, batch_size: int, device: torch.device, seconds: float) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    wait()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            count += 1
        wait()
    return count * batch_size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("models", "steps", "matrix"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", help="default: all of torchvision")
    parser.add_argument("--sizes", nargs="+", choices=WORKLOADS, default=["cifar", "resnet50"])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    device = torch.device(args.device)
    machine = hardware_of_training(args.device)
    if args.device == "cuda":
        machine["cudnn"] = torch.backends.cudnn.version()
    for part in args.parts or ("models", "steps", "matrix"):
        if part == "models":
            names = args.models or [f"torchvision:{name}" for name in list_names()]
            keep("gpu", {**try_models(names, device), **machine})
        elif part == "steps":
            keep("gpu", {**try_steps(device), **machine})
        else:
            for size in args.sizes:
                keep("gpu", {**measure_matrix(size, device, args.seconds, args.repeats), **machine})


if __name__ == "__main__":
    main()
