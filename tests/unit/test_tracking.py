"""Runs in a real MLflow: what the stages say arrives, statuses are true, outages harm nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from inline_sender import InlineSender
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from torch import nn

from darkroom.errors import UserError
from darkroom.pipeline.snapshot import EditedMeanwhile
from darkroom.runtime import load_runtime
from darkroom.tracking import records
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.journal.file import JOURNALS, journals
from darkroom.tracking.mlflow.store import open_store
from darkroom.tracking.run import Run, made_tag

MODEL = Path("models/model.safetensors")


@pytest.fixture(scope="module")
def folder(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    shutil.copy(empty_mlflow, folder)
    return folder


@pytest.fixture
def client(inline_sender: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the database that runs in ``folder`` go to."""
    monkeypatch.chdir(folder)
    return open_store(folder, Address.of(folder)).client


def latest(client: MlflowClient, stage: str) -> MlflowRun:
    """Wait until the newest run of ``stage`` has ended in MLflow: a busy machine sends late."""
    deadline = time.monotonic() + 60
    while True:
        experiments = client.search_experiments(filter_string="name = 'darkroom'")
        ids = [experiment.experiment_id for experiment in experiments]
        found = client.search_runs(ids, f"tags.stage = '{stage}'", max_results=1) if ids else []
        if (found and found[0].info.status != "RUNNING") or time.monotonic() > deadline:
            return found[0]
        time.sleep(0.1)


def test_everything_that_is_said_arrives(client: MlflowClient, folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / "a.txt").write_text("a")
    (folder / "top.txt").write_text("top")
    with tracked("said", load_runtime()) as run:
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
    [
        (RuntimeError("broken"), "FAILED"),
        (UserError("repair it"), "FAILED"),
        (EditedMeanwhile("edited"), "FAILED"),
        (SystemExit(3), "FAILED"),
        (SystemExit("why"), "FAILED"),
        (FileNotFoundError(2, "no such", "\udcff\x00\U0001f642" * 9_000), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(), "FINISHED"),
    ],
)
def test_the_status_tells_how_it_ended(client: MlflowClient, error: BaseException, status: str) -> None:
    title = f"ends by {id(error)}"

    def stage() -> None:
        with tracked(title, load_runtime()) as run:
            run.log_metrics({"reached": 1.0})
            raise error

    with pytest.raises(type(error)):
        stage()
    logged = latest(client, title)
    assert logged.info.status == status
    assert logged.data.metrics == {"reached": 1.0}
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    shown = text.encode("utf-8", "backslashreplace").decode()[:2_000]
    assert logged.data.tags.get("error") == (None if status == "FINISHED" else shown)


def test_a_terminated_process_is_closed_as_killed(client: MlflowClient, folder: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "from darkroom.pipeline.stage import _exit_on_term\n"
        "from darkroom.runtime import load_runtime\n"
        "from darkroom.tracking import recorder\n"
        "from darkroom.tracking.destinations import tracked\n"
        "recorder.start_sender = lambda root: None\n"
        "signal.signal(signal.SIGTERM, _exit_on_term)\n"
        "with tracked('terminated', load_runtime()) as run:\n"
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
    InlineSender(folder).poll()
    logged = latest(client, "terminated")
    assert (logged.info.status, logged.data.metrics) == ("KILLED", {"reached": 1.0})


def test_runs_find_each_other_by_what_they_made(client: MlflowClient) -> None:
    for lr in (0.1, 0.2):
        with tracked("train", load_runtime()) as run:
            run.log_params({"train.lr": lr})
            run.log_output(MODEL, "abc")
    with tracked("train", load_runtime()) as run:
        run.log_output(MODEL, "another")
    with tracked("evaluate", load_runtime()) as run:
        run.log_input(MODEL, "abc", as_child=True).log_metrics({"test/f1_macro": 0.9})
        run.log_input(MODEL, "unknown").log_metrics({"test/f1_macro": 0.1})
    parent = client.get_run(latest(client, "evaluate").data.tags["mlflow.parentRunId"])
    assert parent.data.params["train.lr"] == "0.2"  # the later of two that made the same bytes
    assert parent.data.tags[made_tag(MODEL)] == "abc"
    assert parent.data.metrics == {"test/f1_macro": 0.9}
    assert parent.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in parent.data.tags


def test_a_dead_server_costs_a_warning_and_nothing_else(
    inline_sender: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked("alone", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
        run.log_input(MODEL, "abc").log_params({"b": 2})
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "Connection refused" in said
    assert "darkroom sync" in said


def test_what_mlflow_refuses_is_said_and_kept_and_the_rest_arrives(
    client: MlflowClient, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked("partly", load_runtime()) as run:
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
    with tracked("shown", load_runtime()) as run:
        for images, _ in run.watch([(torch.zeros(4, 1, 8, 8), torch.zeros(4))], nn.Flatten()):
            assert len(images) == 4
        run.log_pr_curves("ab", torch.eye(2) > 0, torch.eye(2))
    assert capsys.readouterr().err == ""
    logged = latest(client, "shown")
    assert (logged.info.status, logged.data.metrics, logged.data.params) == ("FINISHED", {}, {})
    assert not client.list_artifacts(logged.info.run_id)


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_fresh_database(tmp_path: Path) -> None:
    program = (
        "from darkroom.runtime import load_runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "with tracked('one of eight', load_runtime()) as run:\n"
        "    for step in range(500):\n"
        "        run.log_metrics({'a': float(step)}, step=step)\n"
    )
    env = {**os.environ, "DVC_ROOT": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
    fresh = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = fresh.search_experiments(filter_string="name = 'darkroom'")
    runs = fresh.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    for run in runs:
        points = fresh.get_metric_history(run.info.run_id, "a")
        assert sorted(point.step for point in points) == list(range(500))
    assert [path.name for path in tmp_path.glob("*.db")] == ["mlflow.db"]


# what goes wrong in the stage's own place


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose MLflow is out of reach, and is not waited for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DARKROOM_MLFLOW_SECONDS", "0")
    return tmp_path


def test_of_processes_that_train_together_the_first_alone_logs(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with tracked("train", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
    assert list(alone.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    with tracked("train", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
    assert len(list(journals(alone))) == 1


def test_without_tracking_there_is_no_journal(alone: Path) -> None:
    with tracked("train", load_runtime({"DARKROOM_TRACKING": "off"})) as run:
        run.log_metrics({"a": 1.0})
    assert list(alone.iterdir()) == []


def test_where_nothing_can_be_written_a_warning_is_all(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage() -> str:
        with tracked("train", load_runtime()) as run:
            run.log_metrics({"a": 1.0})
            run.log_input(MODEL, "abc").log_metrics({"b": 1.0})
        [warning] = capsys.readouterr().err.splitlines()
        return warning

    (alone / JOURNALS).write_text("a file")
    assert "this run is not logged" in stage()
    monkeypatch.setenv("DVC_ROOT", "/proc")  # where nobody, not even root, may write
    assert "this run is not logged" in stage()


def test_a_full_disk_costs_a_warning_and_what_it_took_is_consistent(alone: Path) -> None:
    program = (
        "import resource\n"
        "from pathlib import Path\n"
        "from darkroom.runtime import load_runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "Path('big').write_bytes(bytes(50_000))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "with tracked('train', load_runtime()) as run:\n"
        "    for step in range(1_000):\n"
        "        run.log_metrics({'a': float(step)}, step=step)\n"
        "    run.log_artifacts(Path('big'))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    [warning] = result.stderr.splitlines()
    assert "File too large" in warning
    [journal] = journals(alone)
    reading = journal.read()
    assert reading.damage == []
    steps = [line.record.step for line in reading.lines if isinstance(line.record, records.Metrics)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 100


def test_a_deleted_journal_costs_a_warning(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tracked("train", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
        shutil.rmtree(alone / JOURNALS)
        run.log_metrics({"a": 2.0}, step=1)
        (alone / "a.txt").write_text("a")
        run.log_artifacts(Path("a.txt"))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_cannot_be_written_as_json_does_not_stop_the_work(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked("train", load_runtime()) as run:
        run.log_dataset("prepared", "d", Path("data"), {"a": object()})
        run.log_metrics({"a": float("nan"), "b": float("inf")})
        run.log_tags({"a": "\udcff"})
        run.log_metrics({"a": 2.0}, step=1)
    assert len(capsys.readouterr().err.splitlines()) == 1
    [journal] = journals(alone)
    said = [line.record for line in journal.read().lines]
    assert records.Tags(values={"a": "\\udcff"}) in said
    assert isinstance(said[-1], records.End)


def test_what_is_no_metric_does_not_stop_the_work(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracked("train", load_runtime()) as run:
        run.log_metrics({"a": "no number"})  # type: ignore[dict-item]
        run.log_metrics({"a": 2.0}, step=1)
    warning, *_ = capsys.readouterr().err.splitlines()
    assert "not everything of this run is logged: could not convert" in warning
    [journal] = journals(alone)
    assert [line.record.step for line in journal.read().lines if line.record.kind == "metrics"] == [1]


@pytest.mark.slow
def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    secrets = {
        "MLFLOW_TRACKING_TOKEN": "token-tttttttttt",
        "AWS_SECRET_ACCESS_KEY": "aws/ssssss+ssss",
        "DB_PASSWORD": 'quoted"pass\\word',
    }
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from darkroom.runtime import load_runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "said = ' '.join(os.environ[name] for name in sys.argv[1:])\n"
        "with tracked('train', load_runtime()) as run:\n"
        "    run.log_params({'a': said, 'list': [said]})\n"
        "    run.log_tags({'b': said})\n"
        "    run.log_dataset('prepared', 'd', Path('data'), {'c': [said], 'e': {'f': said}})\n"
        "    run.describe('what', {'g': said})\n"
        "    raise RuntimeError(said)\n"
    )
    uri = "http://user:hunter2-secret@127.0.0.1:9"
    for address in (None, uri):
        env = {**os.environ, **secrets, "DVC_ROOT": str(tmp_path)}
        env.pop("MLFLOW_TRACKING_URI", None)
        names = [*secrets]
        if address:
            env["MLFLOW_TRACKING_URI"] = address
            names.append("MLFLOW_TRACKING_URI")
        result = subprocess.run(
            [sys.executable, "-c", program, *names], env=env, capture_output=True, text=True
        )
        shown = [line for line in result.stderr.splitlines() if line.startswith("tracking:")]
        assert len(shown) == (address is not None)
        assert "secret" not in " ".join(shown)
    assert (tmp_path / "mlflow.db").exists()
    hidden = [*secrets.values(), "hunter2-secret", json.dumps(secrets["DB_PASSWORD"])[1:-1]]
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in hidden), path
    assert b"***" in (tmp_path / "mlflow.db").read_bytes()


def test_a_run_without_mlflow_takes_everything_and_keeps_nothing() -> None:
    run = Run()
    run.log_params({"a": 1})
    run.log_metrics({"a": 1.0})
    run.log_output(MODEL, "abc")
    assert isinstance(run.log_input(MODEL, "abc"), Run)
