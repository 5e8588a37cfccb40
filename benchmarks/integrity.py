"""What the checks of files cost beside the stages that make them: a line for each stage and data set.

    python benchmarks/integrity.py            digits, and noise of CIFAR-10's size
    python benchmarks/integrity.py digits     the first alone

Stages run in a copy of the project; the checks alone are timed afterwards on their files, five times,
of which the median counts. Files are in the page cache, as after the stage that wrote them.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import hardware, keep
from PIL import Image
from project_copies import change_params, project_copy, run_stage

from darkroom.dataset.info import load_info
from darkroom.digests import check_files
from darkroom.models.exported import check_exported, load_description
from darkroom.models.own_digest import check_digest

REPETITIONS = 5
NUM_NOISE = 60_000
CHANGES: dict[str, dict[str, Any]] = {
    "digits": {"train.epochs": 20},
    "noise": {"data.path": "data/noise", "data.fetch": [], "train.epochs": 1, "model.width": 8},
}
COMMON = {"export.formats": ["onnx"]}


def median_seconds(work: Callable[[], object]) -> float:
    """Returns the median time of ``work``."""
    seconds = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def write_noise(folder: Path) -> None:
    """Writes as many images as CIFAR-10 has, of its size: PNG, 32 x 32, RGB, ten classes."""
    generator = np.random.default_rng(0)
    for index in range(NUM_NOISE):
        path = folder / f"{index % 10}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)


def check_seconds(folder: Path) -> dict[str, float]:
    """Times the checks that each stage makes, on the files of a project whose stages have run."""
    dataset, model = folder / "data/prepared/dataset.json", folder / "models/model.safetensors"
    info = load_info(dataset)

    def check_splits(*splits: str) -> None:
        load_info(dataset)
        for split in splits:
            check_files(dataset.parent / split, info.shards(split), dataset, "")

    def check_export() -> None:
        _, digests = load_description(folder / "export")
        check_exported(folder / "export", digests, "model.onnx")

    of_train_and_val = median_seconds(lambda: check_splits("train", "val"))
    of_model = median_seconds(lambda: check_digest(model))
    of_test = median_seconds(lambda: check_splits("test"))
    return {
        "train": of_train_and_val,
        "evaluate": of_train_and_val + of_test + of_model,
        "export": of_test + 2 * of_model,  # the exported copy is loaded, too
        "predict": median_seconds(check_export),
    }


def predict_seconds(folder: Path) -> float:
    """Times `darkroom predict` on 64 images, the start of Python included."""
    images = sorted((folder / "data").rglob("*.png"))[:64]
    darkroom = Path(sys.executable).parent / "darkroom"
    command: list[str | Path] = [darkroom, "predict", folder / "export", *images]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(name: str) -> None:
    """Runs the stages on one data set, and keeps a line for each."""
    with project_copy() as folder:
        change_params(folder / "params.yaml", COMMON | CHANGES[name])
        if name == "noise":
            write_noise(folder / "data/noise")
        else:
            subprocess.run(
                [sys.executable, Path("stages/fetch.py").resolve(), "digits"], cwd=folder, check=True
            )
        seconds = {
            stage: run_stage(stage, folder) for stage in ("prepare", "train", "evaluate", "export")
        }
        seconds["predict"] = predict_seconds(folder)
        info = load_info(folder / "data/prepared/dataset.json")
        for stage, check in check_seconds(folder).items():
            figures = {
                "data": name,
                "num_images": {split: info.num_images(split) for split in ("train", "val", "test")},
                "shard_bytes": sum(digest.size for digest in info.files.values()),
                "model_bytes": (folder / "models/model.safetensors").stat().st_size,
                "stage": stage,
                "stage_seconds": round(seconds[stage], 2),
                "check_seconds": round(check, 4),
                "check_over_stage": round(check / seconds[stage], 5),
            }
            keep("integrity", {**figures, **hardware()})


def main() -> None:
    for name in sys.argv[1:] or CHANGES:
        measure(name)


if __name__ == "__main__":
    main()
