"""A table through all five stages: a kill in another folder, the same bytes, and predict."""

import csv
import json
import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import Project

from darkroom.recipes import use_recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
ENVIRON = {"DARKROOM_TRACKING": "off", "DARKROOM_CHECKPOINT_SECONDS": "1"}


def wine_project(folder: Path) -> Project:
    project = Project(folder)
    use_recipe("breast_cancer", ROOT / "recipes", folder / "params.yaml")
    project.set_params(
        data__fetch=["wine"],
        data__path="data/fetched/wine",
        data__table="rows.csv",
        train__epochs=100,
        train__batch_size=16,
        export__formats=["onnx"],
    )
    return project


def words_in(page: str) -> str:
    """The text of a page that people read: without scripts, styles, tags and pictures."""
    return re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)


def test_a_table_goes_through_all_stages_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    whole = wine_project(tmp_path / "whole")
    said = [whole.run("python", f"stages/{stage}.py", **ENVIRON) for stage in ("fetch", "prepare")]
    killed = whole.copy(tmp_path / "another")
    stages = ("train", "evaluate", "export")
    said += [whole.run("python", f"stages/{stage}.py", **ENVIRON) for stage in stages]
    test = json.loads(whole.text("reports/evaluate/metrics.json"))["test"]
    assert test["f1_macro"] > 0.9
    for entry in json.loads(whole.text("export/parity.json")).values():
        assert entry["max_abs_difference_below"] <= 1e-4
        assert entry["f1_macro"] == test["f1_macro"]

    table = "data/fetched/wine/rows.csv"
    said.append(whole.run("darkroom", "predict", "export", table, "--out", "preds.csv"))
    reports = [*whole.folder.glob("reports/**/*.html"), *whole.folder.glob("export/*.md")]
    assert len(reports) == 3
    said += [words_in(report.read_text()) for report in reports]
    for text in said:  # apart from names of parameters, such as train.image_size
        assert not re.search(r"(?<![._])\bimages?\b", text, re.IGNORECASE), text
    assert "1 table in data/fetched/wine" in said[0]
    rows = list(csv.DictReader(whole.text("preds.csv").splitlines()))
    predictions = pq.read_table(whole.folder / "reports/evaluate/predictions.parquet").to_pylist()
    for prediction in predictions:
        row = rows[int(prediction["path"].removeprefix("rows.csv:")) - 2]
        assert row["label"] == prediction["label"]
        assert row["class"] == prediction["pred"]
        assert float(row["probability"]) == pytest.approx(prediction["probability"], abs=2e-6)

    with killed.start("python", "stages/train.py", **ENVIRON) as train:
        while not list(killed.folder.glob(".darkroom/train/*/*-*.pt")):
            assert train.poll() is None, train.communicate()
            time.sleep(0.005)
        train.kill()
    assert "train: resumes after step" in killed.run("python", "stages/train.py", **ENVIRON)
    model = "models/model.safetensors"
    assert (killed.folder / model).read_bytes() == (whole.folder / model).read_bytes()
