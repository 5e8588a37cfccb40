"""Flips labels on purpose, and counts how many `darkroom suspects` ranks first.

    python benchmarks/suspects.py digits [--seeds 0 1 2] [--share 0.05] [--set num_threads=1 ...]
    python benchmarks/suspects.py ants-bees --data hymenoptera.tar --weights mobilenet_v2.pth
    python benchmarks/suspects.py cifar10 --data cifar10-jpeg.tar.xz --weights mobilenet_v2.pth
    python benchmarks/suspects.py cifar10-from-scratch --data cifar10-jpeg.tar.xz

Of all images, the share is given another label at random, in a manifest; k of them are in train and val,
which are ranked. ``found`` is the share of the k among the first 2 k, ``suspects`` the number of
suspects, and ``precision`` the share of flips among these. With ``--share 0`` nothing is
flipped. Prints a line per seed, and adds each to benchmarks/results/suspects.jsonl.
"""

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import hardware, keep
from project_copies import change_params, parse_changes, project_copy, run_stage

from darkroom.recipes import use_recipe

PER_CLASS = 400
"""Images per class of CIFAR-10."""
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits", {}),
    "ants-bees": ("probe", {}),
    "cifar10": ("probe", {"prepare.image_size": 128, "prepare.resize": "stretch"}),
    "cifar10-from-scratch": ("cifar10-fast", {"train.epochs": 20}),
}
"""The recipe of each task, and what is changed of it."""


def images_of(task: str, data: Path | None, folder: Path) -> dict[str, str]:
    """Brings the images of a task into a folder, and returns the true label of each path."""
    if task == "digits":
        from darkroom.collection.sources import fetch_set
        from darkroom.progress import progress_bar

        with progress_bar("fetch") as bar:
            fetch_set("digits", folder, bar)
    else:
        assert data is not None, "--data"
        shutil.unpack_archive(data, folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    by_class: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_class[path.parent.name].append(path.relative_to(folder).as_posix())
    if task.startswith("cifar10"):
        by_class = {name: listed[:PER_CLASS] for name, listed in by_class.items()}
    return {path: name for name, listed in by_class.items() for path in listed}


def flip(truth: dict[str, str], share: float, seed: int) -> dict[str, str]:
    """Returns labels of which a share is another class at random."""
    rng, labels = np.random.default_rng(seed), dict(truth)
    names = sorted(set(truth.values()))
    for path in rng.permutation(sorted(truth))[: round(share * len(truth))].tolist():
        labels[path] = rng.choice([name for name in names if name != truth[path]])
    return labels


def measure(args: argparse.Namespace, changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """Returns the figures of one seed."""
    recipe, more = TASKS[args.task]
    with project_copy() as folder:
        params = folder / "params.yaml"
        use_recipe(recipe, folder / "recipes", params)
        truth = images_of(args.task, args.data, folder / "data/mine")
        labels = flip(truth, args.share, seed)
        with (folder / "data/mine/labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *labels.items()])
        given = {"seed": seed, "data.fetch": [], "data.path": "data/mine", "data.manifest": "labels.csv"}
        given |= {"prepare.test_fraction": 0.1, "prepare.on_conflict": "drop"}
        if args.weights is not None:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(params, {**given, **more, **changes})
        run_stage("prepare", folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "PYTHONPATH": str(Path("src").resolve())}
        command = [sys.executable, "-c", "from darkroom.cli import main; main()", "suspects"]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with (folder / "suspects/suspects.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    is_flipped = np.array([row["label"] != truth[row["path"]] for row in rows])
    is_suspect = np.array([row["is_suspect"] == "yes" for row in rows])
    is_put_right = np.array([row["suggested"] == truth[row["path"]] for row in rows])
    k = int(is_flipped.sum())
    return {
        "task": args.task,
        "seed": seed,
        "images": len(rows),
        "flipped": k,
        "found": round(float(is_flipped[: 2 * k].sum() / k), 4) if k else None,
        "suggestion_is_true": round(float(is_put_right[is_flipped].mean()), 4) if k else None,
        "suspects": int(is_suspect.sum()),
        "precision": round(float(is_flipped[is_suspect].mean()), 4) if is_suspect.any() else None,
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "changes": changes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, help="archive of class folders")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    for seed in args.seeds:
        figures = measure(args, parse_changes(args.set), seed)
        keep("suspects", {**figures, **hardware()}, args.dry)


if __name__ == "__main__":
    main()
