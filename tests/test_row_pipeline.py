"""A table through all five stages: predict, and the same bytes after a kill, elsewhere and by force."""

import csv
import json
import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from effort import only_with_all
from project import Project, stages_run

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`; tests leave dvc.lock and the outputs as they are."""
    project = wine_project(tmp_path_factory.mktemp("whole") / "project")
    project.first_output = project.dvc("repro", **ENVIRON)
    return project


def test_a_table_goes_through_all_stages(whole: Project) -> None:
    said = [whole.first_output]
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


def outputs(project: Project) -> dict[str, bytes]:
    """Every file that `dvc repro` writes, by its path."""
    folders = ("data/fetched", "data/prepared", "models", "reports", "export")
    files = [path for folder in folders for path in (project.folder / folder).rglob("*")]
    found = {f"{path.relative_to(project.folder)}": path for path in files if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name != ".gitignore"}


@only_with_all
def test_a_kill_another_path_and_force_leave_the_lock_as_it_is(whole: Project, tmp_path: Path) -> None:
    lock, written = whole.text("dvc.lock"), outputs(whole)
    assert {"models/model.safetensors", "export/model.onnx"} < written.keys()

    other = whole.copy(tmp_path / "another" / "path", ".darkroom")
    with other.start("python", "stages/train.py", **ENVIRON) as train:
        while not list(other.folder.glob(".darkroom/train/*/*-*.pt")):
            assert train.poll() is None, train.communicate()
            time.sleep(0.005)
        train.kill()
    output = other.dvc("repro", "--force", **ENVIRON)
    assert len(stages_run(output)) == 5
    assert "train: resumes after step" in output
    assert other.text("dvc.lock") == lock
    assert outputs(other) == written
    other.set_params(train__lr=0.0123)
    other.dvc("repro", "train", **ENVIRON)
    assert other.text("dvc.lock") != lock
    assert outputs(other)["models/model.safetensors"] != written["models/model.safetensors"]
