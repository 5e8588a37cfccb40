"""`darkroom folds` as a command: killed in the middle, it resumes to the same bytes; runs in MLflow."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from project import Project, small_project

COMMAND = ("darkroom", "folds", "2")
PARENTS = "SELECT value FROM tags WHERE key = 'mlflow.parentRunId'"


def outputs(project: Project) -> dict[str, bytes]:
    folder = project.folder / "reports/folds"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_killed_folds_resume_to_the_same_bytes_and_are_logged_once(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    project = small_project(tmp_path / "killed")
    project.set_params(train__epochs=2, model__name="mlp")
    for stage in ("fetch", "prepare"):
        project.run("python", f"stages/{stage}.py", DARKROOM_TRACKING="off")
    whole = project.copy(tmp_path / "whole")
    printed = whole.run(*COMMAND, "--json", DARKROOM_TRACKING="off")
    found = json.loads(printed[printed.index("{\n") :])
    written = outputs(whole)
    assert json.loads(written["folds.json"]) == found
    assert written.keys() == {"folds.json", "predictions.parquet"}

    finished = project.folder / ".darkroom/retraining"
    with project.start(*COMMAND) as process:
        while not list(finished.glob("*/*/probabilities.npy")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (project.folder / "reports/folds").exists()
    mlflow = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    for _ in range(2):
        project.run(*COMMAND, MLFLOW_TRACKING_URI=mlflow)
        assert outputs(project) == written
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        given_up = time.monotonic() + 120  # the sender may be slow
        while len(list(database.execute(PARENTS))) < 2 and time.monotonic() < given_up:
            time.sleep(0.1)
        runs = dict(database.execute("SELECT run_uuid, name FROM runs"))
        parents = database.execute(PARENTS).fetchall()
        [mean] = database.execute("SELECT value FROM latest_metrics WHERE key = 'folds/f1_macro_mean'")
    assert len(runs) == 3
    assert len(parents) == 2
    assert len(set(parents)) == 1
    assert runs[parents[0][0]].startswith("folds 2 mlp")
    assert mean == (found["f1_macro"]["mean"],)
