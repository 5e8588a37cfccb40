"""Trains on scikit-learn's tables by the stages, beside its logistic regression on the same split.

    python benchmarks/tables.py [breast_cancer wine iris] [--seeds 0 1 2] [--set model.depth=1 ...]

The regression is fitted to the standardised columns of the CSV file, which pandas reads, of the rows
that ``prepare`` has put into train; C is 1. The interval of its macro F1 on test is a bootstrap over
rows.

Prints a line per set and seed, and adds it to benchmarks/results/tables.jsonl.
"""

import argparse
import json
from typing import Any

import numpy as np
import pandas as pd
from machine import hardware_of_training, keep
from project_copies import change_params, parse_changes, project_copy, run_stage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from darkroom.recipes import use_recipe

NAME = "tables"
NUM_RESAMPLES = 2_000


def measure(name: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Runs the stages in a copy of the project, then fits the regression on the same split."""
    with project_copy() as folder:
        params = folder / "params.yaml"
        use_recipe("breast_cancer", folder / "recipes", params)
        data = {"data.fetch": [name], "data.path": f"data/fetched/{name}", "data.table": "rows.csv"}
        change_params(params, {"seed": seed, **data, **changes})
        for stage in ("fetch", "prepare", "train", "evaluate"):
            run_stage(stage, folder)
        test = json.loads((folder / "reports/evaluate/metrics.json").read_text())["test"]
        frame = pd.read_csv(folder / f"data/fetched/{name}/rows.csv")
        manifest = pd.read_parquet(folder / "data/prepared/manifest.parquet")
    lines = manifest["path"].str.removeprefix("rows.csv:").astype(int) - 2
    rows = {split: frame.loc[lines[manifest["split"] == split]] for split in ("train", "test")}
    inputs = {split: of_split.drop(columns="label") for split, of_split in rows.items()}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000))
    model.fit(inputs["train"], rows["train"]["label"])
    truth, preds = rows["test"]["label"].to_numpy(), model.predict(inputs["test"])
    low, high = interval(truth, preds)
    return {
        "num_rows": {split: len(of_split) for split, of_split in rows.items()},
        "f1_macro": round(test["f1_macro"], 4),
        "sklearn_f1_macro": round(float(f1_score(truth, preds, average="macro")), 4),
        "sklearn_low": round(low, 4),
        "sklearn_high": round(high, 4),
        "is_within": bool(low <= test["f1_macro"] <= high),
    }


def interval(truth: np.ndarray, preds: np.ndarray) -> tuple[float, float]:
    """Returns the 2.5 and 97.5 % quantiles of the macro F1 over resampled rows."""
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(NUM_RESAMPLES):
        rows = rng.integers(0, len(truth), len(truth))
        scores.append(f1_score(truth[rows], preds[rows], average="macro"))
    low, high = np.quantile(scores, (0.025, 0.975)).tolist()
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=["breast_cancer", "wine"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other parameters")
    args = parser.parse_args()
    changes = parse_changes(args.set)
    for name in args.sets:
        for seed in args.seeds:
            found = measure(name, seed, changes)
            line = {"set": name, "seed": seed, "changes": changes, **found}
            keep(NAME, {**line, **hardware_of_training("cpu")})


if __name__ == "__main__":
    main()
