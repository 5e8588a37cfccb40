"""Trains a recipe by the stages on tasks that differ, beside a logistic regression on the same features.

    python benchmarks/recipes_against_linear.py [finetune-small] --weights mobilenet_v2.pth
        [--data hymenoptera.tar ...] [--cifar cifar10] [--camvid camvid] [--tasks letters ...]
        [--seeds 0 1 2] [--set train.epochs=6 ...] [--label "as before"]

The tasks are those of ``tasks.py`` for which there are images, and each of ``--data``. The regression is
scikit-learn's, on the features that the trained model's frozen backbone gives for the prepared images
of train. Its strength of regularisation, and whether features are standardised first, are those with the
best macro F1 on val.

Prints a line per task and seed, and adds it to benchmarks/results/recipes-against-linear.jsonl.
``--table`` makes a table of the newest lines.
"""

import argparse
import shutil
import statistics
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from machine import describe, hardware_of_training, keep, kept
from numpy.typing import NDArray
from project_copies import change_params, parse_changes, project_copy, run_stage
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tasks import TASKS, Sources, write_task
from threadpoolctl import threadpool_limits

from darkroom.dataset.shards import Shards
from darkroom.models.classifier import Classifier
from darkroom.models.file import load_model
from darkroom.models.heads import average
from darkroom.recipes import use_recipe

NAME = "recipes-against-linear"
STRENGTHS = {"as they are": np.logspace(-2, 2, 5), "standardised": np.logspace(-4, -1, 4)}
"""Inverse strengths of regularisation, by how features are scaled."""

Split = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Features ``(n, C)`` and labels ``(n,)``."""


class Features:
    """Features by a backbone that all trainings leave as it is: each image's are computed once."""

    def __init__(self) -> None:
        self._known: dict[bytes, NDArray[np.float32]] = {}

    @torch.inference_mode()
    def of(self, model: Classifier, prepared: Path) -> Split:
        """Returns the features and labels of a split."""
        shards = Shards(prepared)
        images = shards.gather(np.arange(len(shards)))
        keys = [sha256(image.tobytes()).digest() for image in images]
        new = [number for number, key in enumerate(keys) if key not in self._known]
        model.eval()
        for start in range(0, len(new), 32):
            part = new[start : start + 32]
            batch = torch.from_numpy(images[part]).permute(0, 3, 1, 2)
            features = average(model.features(batch)).numpy()
            self._known.update(zip((keys[number] for number in part), features, strict=True))
        return np.stack([self._known[key] for key in keys]), np.asarray(shards.labels)


def measure(
    args: argparse.Namespace, data: Path, known: Features, changes: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Runs the stages with one seed in a copy of the project, then fits the regression."""
    with project_copy() as folder:
        params = folder / "params.yaml"
        use_recipe(args.recipe, folder / "recipes", params)
        given = {"seed": seed, "data.fetch": [], "data.path": str(data.resolve())}
        if args.weights is not None:
            shutil.copy(args.weights, folder / "models/weights")
            given["model.weights"] = f"models/weights/{args.weights.name}"
        change_params(params, {**given, **changes})
        run_stage("prepare", folder)
        train_seconds = run_stage("train", folder)
        model, spec = load_model(folder / "models/model.safetensors")
        assert isinstance(model, Classifier)
        if spec.training["train.freeze"] != "backbone" or spec.training["train.unfreeze"]:
            sys.exit(f"{args.recipe}: only recipes that freeze the whole backbone can be compared")
        splits = {
            split: known.of(model, folder / "data/prepared" / split)
            for split in ("train", "val", "test")
        }
        features, labels = splits["test"]
        with torch.inference_mode():
            preds = model.network.head(torch.from_numpy(features)).argmax(dim=1)
        linear, how = regression(splits)
        return {
            "num_images": {split: len(labels) for split, (_, labels) in splits.items()},
            "num_classes": len(spec.class_names),
            "kept_epoch": spec.training["kept"]["epoch"],
            "recipe_f1_macro": round(float(f1_score(labels, preds, average="macro")), 4),
            "linear_f1_macro": round(linear, 4),
            "linear": how,
            "train_seconds": round(train_seconds, 1),
        }


def regression(splits: dict[str, Split]) -> tuple[float, str]:
    """Returns the macro F1 on test of the regression that is best on val, and which one it is."""
    scores: list[tuple[float, float, str]] = []
    for scaling, strengths in STRENGTHS.items():
        for strength in strengths:
            scale = StandardScaler() if scaling == "standardised" else FunctionTransformer()
            model = make_pipeline(scale, LogisticRegression(C=strength, max_iter=300))
            # threads only wait for each other on data as small as these
            with warnings.catch_warnings(), threadpool_limits(1):
                warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest regularisation
                model.fit(*splits["train"])
            on_val, on_test = (_f1_macro(model, splits[split]) for split in ("val", "test"))
            scores.append((on_val, on_test, f"{scaling}, C = {strength:.2g}"))
    _, on_test, how = max(scores, key=lambda score: score[0])
    return on_test, how


def _f1_macro(model: Pipeline, split: Split) -> float:
    features, labels = split
    return float(f1_score(labels, model.predict(features), average="macro"))


def table(lines: list[dict[str, Any]]) -> str:
    """Makes a Markdown table: the newest line of each seed, their mean per task and label."""
    newest = {
        (line["recipe"], line["task"], line["label"], describe(line), line["seed"]): line
        for line in lines
    }
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for key, line in newest.items():
        groups.setdefault(key[:-1], []).append(line)
    rows = [
        "| recipe | task | classes | images to train, test | seeds | recipe's test macro F1 "
        "| logistic regression's | difference | trained in | on |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (recipe, task, label, hardware), seeds in groups.items():
        recipe_f1, linear_f1 = (
            [line[name] for line in seeds] for name in ("recipe_f1_macro", "linear_f1_macro")
        )
        first = seeds[0]
        cells = [
            f"{recipe}{label and ', ' + label}",
            task,
            first["num_classes"],
            f"{first['num_images']['train']}, {first['num_images']['test']}",
            len(seeds),
            _spread(recipe_f1),
            _spread(linear_f1),
            f"{statistics.mean(recipe_f1) - statistics.mean(linear_f1):+.3f}",
            f"{statistics.median(line['train_seconds'] for line in seeds):.0f} s",
            hardware,
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="finetune-small")
    parser.add_argument("--weights", type=Path, help="a file for model.weights")
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], help="images, as data.path takes them"
    )
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as folders of images")
    parser.add_argument("--camvid", type=Path, help="CamVid, unpacked")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--label", default="", help="what those make of the recipe")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the newest results")
    args = parser.parse_args()
    if args.table:
        print(table(kept(NAME)))
        return
    changes = parse_changes(args.set)
    sources = Sources(args.cifar, args.camvid)
    with TemporaryDirectory() as folder:
        collections = {data.name.split(".")[0]: data for data in args.data}
        for name in args.tasks:
            if sources.has_images_of(name):
                collections[name] = Path(folder) / name
                write_task(name, collections[name], sources)
        for name, data in collections.items():
            known = Features()
            for seed in args.seeds:
                began = time.perf_counter()
                line = {
                    "recipe": args.recipe,
                    "task": name,
                    "label": args.label,
                    "seed": seed,
                    **measure(args, data, known, changes, seed),
                    "seconds": round(time.perf_counter() - began, 1),
                    "changes": changes,
                }
                keep(NAME, {**line, **hardware_of_training("cpu")}, args.dry)


if __name__ == "__main__":
    main()
