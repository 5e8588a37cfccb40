"""Accuracy of crops to 224 pixels, cut from images that were prepared at 224, 256 or 320 pixels.

    python benchmarks/larger_storage.py --data hymenoptera.tar --weights mobilenet_v2.pth
        [--sizes 224 256 320] [--seeds 0 1 2]

Ants and bees: the folder ``val`` is the test split, and val is cut from train. mobilenet_v2 is
fine-tuned from its tenth block on, for a few epochs of random resized crops and mirror images. Each
model is tested on the centre crop, which it was chosen on, and on the whole image.

Prints a line per size and seed, and adds it to benchmarks/results/larger-storage.jsonl. ``--table``
makes a table of the newest lines.
"""

import argparse
import resource
import shutil
import statistics
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from machine import describe, hardware_of_training, keep, kept
from project_copies import change_params, project_copy, run_stage

from darkroom.compute.inference import compute_logits
from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView
from darkroom.loading.batches import Batches
from darkroom.models.file import load_model

NAME = "larger-storage"
SIZE = 224
EPOCHS = 4
VIEWS: tuple[Literal["centre", "whole"], ...] = ("centre", "whole")

PARAMS: dict[str, Any] = {
    "data.fetch": [],
    "prepare.resize": "crop",
    "prepare.channels": 3,
    "augment.crop_padding": 0,
    "augment.resized_crop": 0.08,
    "augment.horizontal_flip": True,
    "augment.rotate": 0,
    "augment.scale": 0,
    "model.name": "torchvision:mobilenet_v2",
    "model.width": None,
    "model.depth": None,
    "train.epochs": EPOCHS,
    "train.image_size": SIZE,
    "train.evaluate_crop": "centre",
    "train.batch_size": 16,
    "train.lr": 0.01,
    "train.ema_decay": None,
    "train.freeze": [f"backbone.features.{number}.*" for number in range(10)],
}


def measure(data: Path, weights: Path, prepared: int, seeds: list[int]) -> None:
    """Prepares images of one size, and trains a model per seed."""
    with project_copy() as folder:
        params = folder / "params.yaml"
        shutil.copy(weights, folder / "models/weights")
        changes = {"data.path": str(data), "model.weights": f"models/weights/{weights.name}"}
        change_params(params, {**PARAMS, **changes, "prepare.image_size": prepared})
        for seed in seeds:
            change_params(params, {"seed": seed})
            run_stage("prepare", folder)
            before = _cpu_seconds()
            seconds = run_stage("train", folder)
            cpu_seconds = _cpu_seconds() - before
            model, spec = load_model(folder / "models/model.safetensors")
            accuracy = {}
            for crop in VIEWS:
                shards = Shards(folder / "data/prepared/test", view=EvaluationView((SIZE, SIZE), crop))
                logits, targets = compute_logits(model, Batches(shards, torch.device("cpu"), 32))
                accuracy[crop] = round(float((logits.argmax(dim=1) == targets).double().mean()), 4)
            keep(
                NAME,
                {
                    "prepared": prepared,
                    "trained": SIZE,
                    "seed": seed,
                    "epochs": EPOCHS,
                    "kept_epoch": spec.training["kept"]["epoch"],
                    "test_images": len(shards),
                    "test_accuracy": accuracy,
                    "train_seconds": round(seconds, 1),
                    "train_cpu_seconds": round(cpu_seconds, 1),
                    **hardware_of_training("cpu"),
                },
            )


def _cpu_seconds() -> float:
    """Returns the CPU time of the stages so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(lines: list[dict[str, Any]]) -> str:
    """Makes a Markdown table: the mean over the newest line of each seed, and the least to greatest."""
    newest = {(describe(line), line["prepared"], line["seed"]): line for line in lines}
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for (hardware, prepared, _), line in sorted(newest.items()):
        groups.setdefault((hardware, prepared), []).append(line)
    rows = [
        "| prepared | trained | seeds | test accuracy, centre crop | whole image | on |",
        "|---|---|---|---|---|---|",
    ]
    for (hardware, prepared), seeds in groups.items():
        shown = []
        for crop in VIEWS:
            values = [line["test_accuracy"][crop] for line in seeds]
            shown.append(f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        rows.append(
            f"| {prepared} | {seeds[0]['trained']} | {len(seeds)} | {' | '.join(shown)} | {hardware} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="hymenoptera.tar")
    parser.add_argument("--weights", type=Path, help="mobilenet_v2.pth")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256, 320])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="measure nothing, print the newest results")
    args = parser.parse_args()
    if args.table:
        print(table(kept(NAME)))
        return
    torch.set_num_threads(2)
    with TemporaryDirectory() as unpacked:
        with tarfile.open(args.data) as archive:
            archive.extractall(unpacked, filter="data")
        data = Path(unpacked) / "hymenoptera"
        (data / "val").rename(data / "test")
        for prepared in args.sizes:
            measure(data, args.weights, prepared, args.seeds)


if __name__ == "__main__":
    main()
