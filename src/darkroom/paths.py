"""Where artifacts lie, relative to the project's root, as in dvc.yaml."""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
ENVIRONMENT = Path("environment.json")
RECIPES = Path("recipes")

DATA = Path("data")
PREPARED = DATA / "prepared"
DATASET = PREPARED / "dataset.json"
MANIFEST = PREPARED / "manifest.parquet"

CACHE = Path(".darkroom")
"""Scratch that can be deleted at any time."""

MODEL = Path("models/model.safetensors")
WEIGHTS = Path("models/weights")
"""Where files of weights lie that a training begins with."""

REPORT_PREPARE = Path("reports/prepare")
PREPARE_METRICS = REPORT_PREPARE / "metrics.json"
PROBLEMS = REPORT_PREPARE / "problems.csv"
DUPLICATES = REPORT_PREPARE / "duplicates.csv"
REPORT_OF_PREPARE = REPORT_PREPARE / "report.html"
TROUBLE = REPORT_PREPARE / "trouble.html"
"""Stands in place of the report if prepare stopped."""
REPORT_TRAIN = Path("reports/train")
REPORT_EVALUATE = Path("reports/evaluate")
HISTORY = REPORT_TRAIN / "history.csv"
METRICS = REPORT_EVALUATE / "metrics.json"
PREDICTIONS = REPORT_EVALUATE / "predictions.parquet"
EVALUATE_PLOTS = REPORT_EVALUATE / "plots"
REPORT = REPORT_EVALUATE / "report.html"

EXPORT = Path("export")
