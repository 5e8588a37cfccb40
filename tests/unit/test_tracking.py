"""Runs in a real MLflow: what the stages say arrives, statuses are true, outages harm nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from torch import nn

from darkroom.runtime import Runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.run import Run, made_tag
from darkroom.tracking.store import open_store

MODEL = Path("models/model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture
def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """A client of the database that runs in ``folder`` go to."""
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return open_store(folder, Address.of(folder)).client


def latest(client: MlflowClient, stage: str) -> MlflowRun:
    [experiment] = client.search_experiments(filter_string="name = 'darkroom'")
    return client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'", max_results=1)[0]


def test_everything_that_is_said_arrives(client: MlflowClient, folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / "a.txt").write_text("a")
    (folder / "top.txt").write_text("top")
    with tracked("said", Runtime()) as run:
        run.log_params({"train.lr": 0.1, "train.clip_norm": None, "train.deterministic": True})
        for step in range(1, 2_501):
            run.log_metrics({"val/loss": 1 / step}, step=step)
        run.log_artifacts(Path("reports"), Path("top.txt"))
        run.log_dataset("prepared", "d" * 64, Path("data/prepared"), {"classes": 2})
    logged = latest(client, "said")
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {
        "train.lr": "0.1",
        "train.clip_norm": "null",
        "train.deterministic": "true",
    }
    points = client.get_metric_history(logged.info.run_id, "val/loss")
    assert {point.step: point.value for point in points} == {step: 1 / step for step in range(1, 2_501)}
    assert {item.path for item in client.list_artifacts(logged.info.run_id)} == {"reports", "top.txt"}
    assert [item.path for item in client.list_artifacts(logged.info.run_id, "reports")] == [
        "reports/a.txt"
    ]
    assert logged.inputs.dataset_inputs[0].dataset.name == "prepared"
    assert logged.info.artifact_uri.startswith((folder / "mlartifacts").as_uri())


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("broken"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_the_status_tells_how_it_ended(client: MlflowClient, error: BaseException, status: str) -> None:
    def stage() -> None:
        with tracked(f"ends {status}", Runtime()) as run:
            run.log_metrics({"reached": 1.0})
            raise error

    with pytest.raises(type(error)):
        stage()
    logged = latest(client, f"ends {status}")
    assert logged.info.status == status
    assert logged.data.metrics == {"reached": 1.0}


def test_a_terminated_process_is_closed_as_killed(client: MlflowClient, folder: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "from darkroom.stage import _exit_on_term\n"
        "from darkroom.runtime import Runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "signal.signal(signal.SIGTERM, _exit_on_term)\n"
        "with tracked('terminated', Runtime()) as run:\n"
        "    run.log_metrics({'reached': 1.0})\n"
        "    print('began', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    logged = latest(client, "terminated")
    assert (logged.info.status, logged.data.metrics) == ("KILLED", {"reached": 1.0})


def test_runs_find_each_other_by_what_they_made(client: MlflowClient) -> None:
    for lr in (0.1, 0.2):
        with tracked("train", Runtime()) as run:
            run.log_params({"train.lr": lr})
            run.made(MODEL, "abc")
    with tracked("train", Runtime()) as run:
        run.made(MODEL, "another")
    with tracked("evaluate", Runtime()) as run:
        run.used(MODEL, "abc", as_child=True).log_metrics({"test/f1_macro": 0.9})
        run.used(MODEL, "unknown").log_metrics({"test/f1_macro": 0.1})
    parent = client.get_run(latest(client, "evaluate").data.tags["mlflow.parentRunId"])
    assert parent.data.params["train.lr"] == "0.2"  # the later of two that made the same bytes
    assert parent.data.tags[made_tag(MODEL)] == "abc"
    assert parent.data.metrics == {"test/f1_macro": 0.9}
    assert parent.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in parent.data.tags


def test_a_dead_server_costs_a_warning_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked("alone", Runtime()) as run:
        run.log_metrics({"a": 1.0})
        run.used(MODEL, "abc").log_params({"b": 2})
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9 does not have this run yet (Connection refused)" in said
    assert "darkroom sync" in said


def test_what_mlflow_refuses_is_said_and_kept_and_the_rest_arrives(
    client: MlflowClient, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked("partly", Runtime()) as run:
        run.log_params({"a": 1})
        run.log_params({"a": 2})  # MLflow refuses another value
        run.log_params({"c": 4})
        run.log_artifacts(Path("absent.txt"))
        run.log_metrics({"b": 3.0})
    errors = capsys.readouterr().err
    assert "tracking: absent.txt is not logged: [Errno 2] No such file" in errors
    assert "tracking: mlflow.db refused a part of this run" in errors
    assert "a = 2" in (folder / "mljournal" / "sender.log").read_text()
    assert len(list((folder / "mljournal" / "refused").iterdir())) == 1
    logged = latest(client, "partly")
    assert (logged.info.status, logged.data.metrics) == ("FINISHED", {"b": 3.0})
    assert logged.data.params == {"a": "1", "c": "4"}


def test_what_is_for_tensorboard_alone_is_left_out(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked("shown", Runtime()) as run:
        for images, _ in run.watch([(torch.zeros(4, 1, 8, 8), torch.zeros(4))], nn.Flatten()):
            assert len(images) == 4
        run.log_pr_curves("ab", torch.tensor([0, 1]), torch.eye(2))
    assert capsys.readouterr().err == ""
    logged = latest(client, "shown")
    assert (logged.info.status, logged.data.metrics, logged.data.params) == ("FINISHED", {}, {})
    assert not client.list_artifacts(logged.info.run_id)


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_fresh_database(tmp_path: Path) -> None:
    program = (
        "from darkroom.runtime import Runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "with tracked('one of four', Runtime()) as run:\n"
        "    run.log_metrics({'a': 1.0})\n"
    )
    env = {**os.environ, "DVC_ROOT": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0
        assert "not logged" not in errors
    fresh = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = fresh.search_experiments(filter_string="name = 'darkroom'")
    assert len(fresh.search_runs([experiment.experiment_id])) == 4


def test_a_run_without_mlflow_takes_everything_and_keeps_nothing() -> None:
    run = Run()
    run.log_params({"a": 1})
    run.log_metrics({"a": 1.0})
    run.made(MODEL, "abc")
    assert isinstance(run.used(MODEL, "abc"), Run)
