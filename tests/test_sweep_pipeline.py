"""`darkroom sweep` as a command: killed at any moment, without test images, and what follows it."""

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from effort import at_least
from project import Project

COMMAND = ("setsid", "darkroom", "sweep")
"""In a process group of its own, which is killed as a whole."""

NUM_TRIALS = 7
RUNS = """SELECT runs.run_uuid, parent.value, trial.value FROM runs
LEFT JOIN tags parent ON parent.run_uuid = runs.run_uuid AND parent.key = 'mlflow.parentRunId'
LEFT JOIN tags trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'trial'
WHERE runs.name LIKE 'sweep %'"""
SCORES = """SELECT tags.value, latest_metrics.value FROM tags JOIN latest_metrics USING (run_uuid)
WHERE tags.key = 'trial' AND latest_metrics.key = 'sweep/f1_macro'"""
SWEEP = f"""\
sampler: tpe
trials: {NUM_TRIALS}
pruning: {{min_epochs: 1, factor: 3}}
space:
  train.lr: {{low: 0.005, high: 0.5, log: true}}
  train.optimizer: [sgd, adamw]
  train.momentum: {{when: {{train.optimizer: sgd}}, low: 0.5, high: 0.95, otherwise: null}}
  train.nesterov: {{when: {{train.optimizer: sgd}}, choices: [true], otherwise: null}}
"""


def found(project: Project) -> dict[str, Any]:
    """What sweep.json says."""
    return json.loads(project.text("sweeps/sweep/sweep.json"))


def wait_for_runs(project: Project, count: int) -> list[tuple[str, str | None, str | None]]:
    """Returns the runs of the sweep in MLflow, when there are ``count``; the sender may be slow."""
    given_up = time.monotonic() + 120
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        while len(runs := list(database.execute(RUNS))) < count and time.monotonic() < given_up:
            time.sleep(0.1)
    return runs


@pytest.mark.slow
def test_a_sweep_killed_at_any_moment_gives_the_same_trials_and_model_as_one_that_was_not(
    tmp_path: Path, pristine: Project
) -> None:
    project = pristine.copy(tmp_path / "killed")
    project.set_params(model__name="mlp", model__width=8)
    (project.folder / "sweep.yaml").write_text(SWEEP)
    whole = project.copy(tmp_path / "whole")
    shutil.rmtree(whole.folder / "data/prepared/test")  # a sweep never reads it
    began = time.monotonic()
    whole.run(*COMMAND, DARKROOM_TRACKING="off")
    seconds = time.monotonic() - began

    draw = random.Random(0)
    for _ in range(at_least(1, 50)):
        with project.start(*COMMAND) as process:
            time.sleep(draw.uniform(0.2, 1) * seconds)  # at some moment; any will do
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    project.run(*COMMAND)
    assert found(project) == found(whole)
    assert len(found(whole)["trials"]) == NUM_TRIALS
    models = [one.folder / "sweeps/sweep/model.safetensors" for one in (project, whole)]
    assert models[0].read_bytes() == models[1].read_bytes()

    runs = wait_for_runs(project, 1 + NUM_TRIALS)
    named = {trial for _, _, trial in runs if trial is not None}
    assert named == {f"{index}" for index in range(NUM_TRIALS)}
    assert len({parent for _, parent, trial in runs if trial is not None}) == 1
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        scores = dict(database.execute(SCORES))
    expected = {f"{one['trial']}": one["f1_macro"] for one in found(whole)["trials"]}
    assert scores == pytest.approx(expected, abs=1e-6)

    project.run("darkroom", "use", "--sweep", "sweep")
    project.stages("train")
    assert (project.folder / "models/model.safetensors").read_bytes() == models[0].read_bytes()
