"""Cross-validates the digits: the default network beside a linear model and the most frequent class.

    python benchmarks/digits_folds.py [--folds 5] [--set train.epochs=30 ...]

Each fold is prepared, trained and evaluated by the stages, in a copy of the project, with its
params.yaml but for what ``--set`` changes. The linear model is scikit-learn's logistic regression on the
same pixels of train and val, scaled to 0..1. Figures are macro F1 on the fold's test images.

Prints a line a fold, and adds a summary to benchmarks/results/digits-folds.jsonl.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from machine import hardware_of_training, keep
from project_copies import change_params, parse_changes, project_copy, run_stage, test_metrics
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from darkroom.dataset.shards import Shards


def measure_baselines(prepared: Path) -> dict[str, float]:
    """Fits scikit-learn's models on train and val, and returns their macro F1 on test."""
    parts = {name: Shards(prepared / name) for name in ("train", "val", "test")}
    pixels = {
        name: shards.gather(np.arange(len(shards))).reshape(len(shards), -1) / 255
        for name, shards in parts.items()
    }
    learnt = np.concatenate([pixels["train"], pixels["val"]])
    labels = np.concatenate([parts["train"].labels, parts["val"].labels])
    models = {
        "linear": LogisticRegression(max_iter=5_000),
        "majority": DummyClassifier(strategy="most_frequent"),
    }
    return {
        name: f1_score(
            parts["test"].labels, model.fit(learnt, labels).predict(pixels["test"]), average="macro"
        )
        for name, model in models.items()
    }


def measure(changes: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Returns a fold's macro F1 by model, and the seconds of the training."""
    with project_copy("data/fetched") as folder:
        change_params(folder / "params.yaml", changes)
        seconds = [run_stage(stage, folder) for stage in ("prepare", "train", "evaluate")]
        baselines = measure_baselines(folder / "data/prepared")
        return {"network": test_metrics(folder)["f1_macro"], **baselines}, seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    changes = parse_changes(args.set)
    found: dict[str, list[float]] = {}
    seconds = []
    for fold in range(1, args.folds + 1):
        scores, train_seconds = measure({**changes, "prepare.fold": f"{fold}/{args.folds}"})
        print(json.dumps({"fold": fold, **{name: round(score, 4) for name, score in scores.items()}}))
        seconds.append(train_seconds)
        for name, score in scores.items():
            found.setdefault(name, []).append(score)
    summary = {
        "folds": args.folds,
        "f1_macro": {name: round(statistics.mean(scores), 4) for name, scores in found.items()},
        "stdev": {name: round(statistics.stdev(scores), 4) for name, scores in found.items()},
        "least": {name: round(min(scores), 4) for name, scores in found.items()},
        "train_seconds": round(statistics.median(seconds), 1),
        "changes": changes,
    }
    keep("digits-folds", {**summary, **hardware_of_training("cpu")}, args.dry)


if __name__ == "__main__":
    main()
