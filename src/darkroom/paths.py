"""Paths of artifacts relative to the project's root, as in dvc.yaml."""

import os
import re
from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
ENVIRONMENT = Path("environment.json")

DATA = Path("data")
FETCHED = DATA / "fetched"
"""Fetched public data sets; other files in this folder are rejected."""

PREPARED = DATA / "prepared"
DATASET = PREPARED / "dataset.json"
MANIFEST = PREPARED / "manifest.parquet"

CACHE = Path(".darkroom")
"""Temporary files that can be deleted at any time."""

FEATURES = CACHE / "features"
"""Features of frozen backbones."""

LATENCY = CACHE / "latency.json"
"""How long the exported files take for an image; a stage's outputs contain no durations."""

MODEL = Path("models/model.safetensors")
WEIGHTS = Path("models/weights")
"""Files with initial weights."""

OWN = Path("own")
"""Python files of the user."""

OWN_FETCH = OWN / "fetch"
"""Those that fetch runs."""

OWN_TRAIN = OWN / "train"
"""Those that train runs; later stages load a model with them."""

REPORT_PREPARE = Path("reports/prepare")
PREPARE_METRICS = REPORT_PREPARE / "metrics.json"
PROBLEMS = REPORT_PREPARE / "problems.csv"
DUPLICATES = REPORT_PREPARE / "duplicates.csv"
TROUBLE = REPORT_PREPARE / "trouble.html"
"""Written instead of the report if prepare stops."""
REPORT_TRAIN = Path("reports/train")
REPORT_EVALUATE = Path("reports/evaluate")
HISTORY = REPORT_TRAIN / "history.csv"
VALIDATION = REPORT_TRAIN / "validation.parquet"
METRICS = REPORT_EVALUATE / "metrics.json"
PREDICTIONS = REPORT_EVALUATE / "predictions.parquet"
EVALUATE_PLOTS = REPORT_EVALUATE / "plots"
EVALUATE_REPORT = REPORT_EVALUATE / "report.html"

EXPORT = Path("export")

WRITTEN = (
    PREPARED,
    MODEL.parent,
    Path("reports"),
    EXPORT,
    CACHE,
    Path("mljournal"),
    Path("mlartifacts"),
    Path("mlflow.db"),
    Path("mlruns"),
    Path(".dvc"),
    Path(".git"),
)
"""What the pipeline, MLflow, DVC and git write; inputs must not be inside."""


def mistaken_input(path: str) -> str:
    """Return what is wrong with the path of an input in params.yaml; empty if nothing is.

    The input need not exist.
    """
    if bad := re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", path):
        return f"{path!r} contains the character {bad[0]!r}; a path must be one line of printable text"
    if path != path.strip():
        return f"{path!r} begins or ends with a blank"
    if "://" in path:
        return f"{path!r} is a URL; download it, and set the path of the folder or file on this machine"
    if path.startswith("~"):
        return f"{path!r} begins with ~, which is not expanded; write the whole path"
    if len(os.fsencode(path)) > 1000 or any(len(os.fsencode(part)) > 255 for part in path.split("/")):
        return f"{path[:40]!r}... is too long for a path"
    places = {os.path.abspath(path)}
    if os.path.isdir(path):  # a file may be a link into DVC's cache
        places.add(os.path.realpath(path))
    if os.path.exists(path) and not (os.path.isdir(path) or os.path.isfile(path)):
        return f"{path!r} is a device or a pipe; it must be a folder or a file"
    for own in (Path(), *WRITTEN):
        for place in map(Path, places):
            if (Path.cwd() / own).is_relative_to(place):
                inner = f"{own}/, which the pipeline writes to" if own.parts else "the project itself"
                return f"{path!r} contains {inner}; use a separate folder, for example data/mine"
            if own.parts and place.is_relative_to(Path.cwd() / own):
                return f"{path!r} is in {own}/, which the pipeline writes to; move it to data/mine"
    return ""


def fetched_name(path: str) -> str:
    """Return the public data set of a path: ``digits`` for data/fetched/digits/3; empty if none."""
    place, sets = Path(os.path.normpath(path)), FETCHED.parts
    return place.parts[len(sets)] if place.parts[: len(sets)] == sets and len(place.parts) > 2 else ""
