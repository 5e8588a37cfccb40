"""`darkroom learning-curve` as a command: killed in the middle, it resumes to the same bytes."""

import json
import time
from pathlib import Path

import pytest
from effort import only_with_all
from project import Project, small_project

COMMAND = ("darkroom", "learning-curve", "--sizes", "30,60")


def outputs(project: Project) -> dict[str, bytes]:
    folder = project.folder / "reports/learning_curve"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@only_with_all
def test_a_killed_learning_curve_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    project = small_project(tmp_path / "killed")
    project.set_params(train__epochs=2, model__name="mlp")
    assert "run `dvc repro" in project.run(*COMMAND, check=False)
    project.run("python", "stages/fetch.py", DARKROOM_TRACKING="off")
    project.run("python", "stages/prepare.py", DARKROOM_TRACKING="off")
    whole = project.copy(tmp_path / "whole")
    printed = whole.run(*COMMAND)
    written = outputs(whole)
    assert written.keys() == {"learning_curve.csv", "learning_curve.json", "learning_curve.html"}
    found = json.loads(written["learning_curve.json"])
    assert [step["percent"] for step in found["sizes"]] == [30, 60, 100]
    assert found["sentence"] in printed.replace("\n", " ")

    finished = project.folder / ".darkroom/learning_curve"
    with project.start(*COMMAND) as process:
        while not list(finished.glob("*/*/preds.npy")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    [first] = finished.glob("*/*/preds.npy")
    before = first.stat().st_mtime_ns
    assert not (project.folder / "reports/learning_curve").exists()
    project.run(*COMMAND)
    assert outputs(project) == written
    assert first.stat().st_mtime_ns == before
    assert len(list(finished.glob("*/*/preds.npy"))) == 3
    assert not (project.folder / "mlflow.db").exists()
