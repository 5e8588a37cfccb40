"""`darkroom folds` as a command: killed in the middle, it resumes to the same bytes; runs in MLflow."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from effort import only_with_all
from project import Project

COMMAND = ("darkroom", "folds", "2")
RUNS = """SELECT runs.run_uuid, tags.value FROM runs LEFT JOIN tags
ON tags.run_uuid = runs.run_uuid AND tags.key = 'mlflow.parentRunId' WHERE runs.name LIKE 'folds %'"""
MEAN = """SELECT name, value FROM runs JOIN latest_metrics USING (run_uuid)
WHERE run_uuid = ? AND key = 'folds/f1_macro_mean'"""


def outputs(project: Project) -> dict[str, bytes]:
    folder = project.folder / "reports/folds"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@only_with_all
def test_killed_folds_resume_to_the_same_bytes_and_are_logged_once(
    tmp_path: Path, pristine: Project
) -> None:
    project = pristine.copy(tmp_path / "killed")
    project.set_params(train__epochs=2, model__name="mlp")
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
    for _ in range(2):
        project.run(*COMMAND)
        assert outputs(project) == written
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        given_up = time.monotonic() + 120  # the sender may be slow
        while len(runs := dict(database.execute(RUNS))) < 3 and time.monotonic() < given_up:
            time.sleep(0.1)
        parents = [parent for parent in runs.values() if parent]
        [(name, mean)] = database.execute(MEAN, parents[:1])
    assert len(runs) == 3
    assert len(parents) == 2
    assert len(set(parents)) == 1
    assert name.startswith("folds 2 mlp")
    assert mean == found["f1_macro"]["mean"]
