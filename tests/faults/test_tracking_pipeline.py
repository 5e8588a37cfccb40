"""Real stages that are killed, fail, resume or run as experiments: MLflow records how each ended."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from effort import ALL, only_with_all
from mlflow import MlflowClient
from mlflow.entities import Run
from project import Project
from stories import points_of
from test_dvc import copy_of, states

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.mlflow.sender import Sender
from darkroom.tracking.mlflow.sender_process import has_sender

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]


def runs(project: Project) -> list[Run]:
    """All runs, when all senders have ended."""
    address = Address.of(project.folder, {})
    deadline = time.monotonic() + 60
    while has_sender(project.folder, address) and Sender(project.folder, address).pending():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("darkroom")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def new_journal(project: Project, process: subprocess.Popen[str], earlier: set[str]) -> Journal:
    """Waits for a stage to begin its journal."""
    while True:
        found = [journal for journal in journals(project.folder) if journal.name not in earlier]
        if found:
            return found[-1]
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


STAGES = ("prepare", "train", "evaluate", "export")
SIGNALS = (
    (signal.SIGKILL, "the process died"),
    (signal.SIGTERM, "SystemExit: 143"),
    (signal.SIGINT, "KeyboardInterrupt"),
)
ENDS = [
    (stage, end)
    for i, stage in enumerate(STAGES)
    for j, end in enumerate(SIGNALS)
    if ALL or i in (0, j + 1)  # all signals in one stage, one signal in each of the others
]


def test_however_a_stage_ends_its_run_says_so(finished: Project, tmp_path: Path) -> None:
    project = copy_of(finished, tmp_path / "project")
    expected: dict[str, tuple[str, str]] = {}
    earlier: set[str] = set()
    for stage, (signum, error) in ENDS:
        with project.start("python", f"stages/{stage}.py") as process:
            journal = new_journal(project, process, earlier)
            process.send_signal(signum)
            process.communicate()
        assert process.returncode != 0
        expected[journal.name] = "KILLED", error
        earlier = {*earlier, *expected}
    with project.start("python", "stages/prepare.py") as process:
        journal = new_journal(project, process, earlier)
        project.set_params(seed=12_345)
        output, _ = process.communicate()
    assert process.returncode == 1, output
    expected[journal.name] = "FAILED", "EditedMeanwhile: "
    shutil.rmtree(project.folder / "data" / "prepared", ignore_errors=True)
    with project.start("python", "stages/train.py") as process:
        journal = new_journal(project, process, {*earlier, journal.name})
        process.communicate()
    assert process.returncode not in (0, None)
    expected[journal.name] = "FAILED", ""

    found = {run.data.tags["darkroom.journal"]: run for run in runs(project)}
    assert set(found) == set(expected)
    for name, (status, error) in expected.items():
        assert found[name].info.status == status
        # a signal may come before anything could be said of it
        assert found[name].data.tags["error"].startswith((error, "the process died"))


def train(project: Project) -> subprocess.Popen[str]:
    return project.start("python", "stages/train.py", DARKROOM_CHECKPOINT_SECONDS="1")


def kill_after_a_state(project: Project) -> None:
    with train(project) as process:
        earlier = states(project)[-1:]
        while states(project)[-1:] == earlier:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        time.sleep(0.3)  # until it has said so
        process.send_signal(signal.SIGKILL)
        process.communicate()


@only_with_all
def test_a_training_killed_again_and_again_is_one_run(finished: Project, tmp_path: Path) -> None:
    project = copy_of(finished, tmp_path / "project")
    epochs = 60
    project.set_params(train__epochs=epochs, num_threads=1)
    kill_after_a_state(project)
    kill_after_a_state(project)
    (project.folder / "mlflow.db").unlink(missing_ok=True)  # the run is delivered anew, whole
    kill_after_a_state(project)
    with train(project) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "resumes after step" in output
    [run] = runs(project)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    steps = Counter((name, step) for name, _, _, step in points_of(client, run))
    assert set(steps.values()) == {1}
    for name in ("train/loss", "val/loss", "val/f1_macro"):
        assert sorted(step for key, step in steps if key == name) == list(range(1, epochs + 1))
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"models", "reports"} <= artifacts
    assert run.data.params["train.epochs"] == f"{epochs}"

    # without its journal, a resumed training is another run, with the whole history
    project.set_params(train__lr=0.09)
    kill_after_a_state(project)
    runs(project)
    for journal in journals(project.folder):
        journal.remove()
    with train(project) as process:
        output, _ = process.communicate()
    assert "resumes after step" in output
    [_, killed, whole] = runs(project)
    assert (killed.info.status, whole.info.status) == ("KILLED", "FINISHED")
    steps = Counter((name, step) for name, _, _, step in points_of(client, whole))
    assert [steps["val/loss", step] for step in range(1, epochs + 1)] == [1] * epochs


@only_with_all
def test_experiments_log_into_the_projects_own_mlflow(finished: Project, tmp_path: Path) -> None:
    project = copy_of(finished, tmp_path / "project")
    project.dvc("exp", "run", "--temp", "-n", "temp", "-S", "train.lr=0.12")
    for name, lr in (("first", 0.13), ("second", 0.14)):
        project.dvc("exp", "run", "--queue", "-n", name, "-S", f"train.lr={lr}", "train")
    project.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 150
    while "Queued" in (status := project.dvc("queue", "status")) or "Running" in status:
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert "Failed" not in status
    project.dvc("queue", "stop")
    found = runs(project)
    assert {run.info.status for run in found} == {"FINISHED"}
    trained = {
        run.data.tags["dvc.experiment"]: run for run in found if run.data.tags["stage"] == "train"
    }
    assert {name: run.data.params["train.lr"] for name, run in trained.items()} == {
        "temp": "0.12",
        "first": "0.13",
        "second": "0.14",
    }
    assert not list(project.folder.glob(".dvc/tmp/exps/**/mlflow.db"))
