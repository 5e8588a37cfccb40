"""Trains a recipe on local images, over several seeds, and measures it on the test split.

    python benchmarks/recipes.py finetune-small --data hymenoptera.tar [--weights mobilenet_v2.pth]
        [--seeds 0 1 2] [--set train.epochs=4 ...] [--label "from scratch"]

``--data`` takes the place of what the recipe fetches; ``--weights`` is copied into models/weights/. What
``--set`` changes is kept with the figures. Prints a line a seed, and adds a summary to
benchmarks/results/recipes.jsonl; ``--table`` makes a table of the newest lines.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from machine import describe, hardware_of_training, keep, kept
from project_copies import change_params, parse_changes, project_copy, run_stage, test_metrics

from darkroom.models.file import load_spec
from darkroom.recipes import use_recipe
from darkroom.runtime import load_runtime

NAME = "recipes"


def measure(args: argparse.Namespace, changes: dict[str, Any], seed: int) -> dict[str, float]:
    """Runs the stages with one seed in a copy of the project."""
    with project_copy() as folder:
        params = folder / "params.yaml"
        made_for = {
            name: value
            for name, _, value in use_recipe(args.recipe, folder / "recipes", params).made_for
        }
        given = {**made_for, "seed": seed, "data.fetch": [], "data.path": str(args.data.resolve())}
        if args.weights is not None:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(params, {**given, **changes})
        run_stage("prepare", folder)
        train_seconds = run_stage("train", folder)
        run_stage("evaluate", folder)
        test = test_metrics(folder)
        kept = load_spec(folder / "models/model.safetensors").training["kept"]
    return {
        "val_accuracy": kept["val_accuracy"],
        "val_f1_macro": kept["val_f1_macro"],
        "test_accuracy": test["accuracy"],
        "test_f1_macro": test["f1_macro"],
        "train_seconds": round(train_seconds, 1),
    }


def device() -> str:
    """Returns the type of the device that the stages train on."""
    from darkroom.compute.device import select_device

    return select_device(load_runtime().device).type


def table(lines: list[dict[str, Any]]) -> str:
    """Makes a Markdown table of the newest line of each recipe, data set and label."""
    newest = {(line["recipe"], line["data"], line["label"], describe(line)): line for line in lines}
    rows = [
        "| recipe | images | seeds | val accuracy | test accuracy | test macro F1 | trained in | on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (recipe, data, label, hardware), line in newest.items():
        cells = [
            f"{recipe}{label and ', ' + label}",
            data,
            len(line["seeds"]),
            *(
                f"{statistics.mean(line[name]):.3f} ({min(line[name]):.3f} to {max(line[name]):.3f})"
                for name in ("val_accuracy", "test_accuracy", "test_f1_macro")
            ),
            f"{statistics.median(line['train_seconds']):.0f} s",
            hardware,
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--data", type=Path, help="images, as data.path takes them")
    parser.add_argument("--weights", type=Path, help="a file for model.weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--label", default="", help="what those make of the recipe")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the newest results")
    args = parser.parse_args()
    if args.table:
        print(table(kept(NAME)))
        return
    if args.recipe is None or args.data is None:
        parser.error("say which recipe, and where the images are")
    changes = parse_changes(args.set)
    found: dict[str, list[float]] = {}
    for seed in args.seeds:
        figures = measure(args, changes, seed)
        print(json.dumps({"seed": seed, **figures}), flush=True)
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    summary = {
        "recipe": args.recipe,
        "data": args.data.name.split(".")[0],
        "label": args.label,
        "seeds": args.seeds,
        **found,
        "changes": changes,
    }
    keep(NAME, {**summary, **hardware_of_training(device())}, args.dry)


if __name__ == "__main__":
    main()
