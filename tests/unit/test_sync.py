"""`darkroom sync`: what waits is sent, what has no run gets one, and what cannot be had is named."""

import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from darkroom.cli import main
from darkroom.runtime import load_runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.journal.file import journals
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.ledger.missing import missing_results
from darkroom.tracking.ledger.restored import Missing
from darkroom.tracking.ledger.results import Content, Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.ledger.runs import KnownRun
from darkroom.tracking.mlflow.usable import check_settings
from darkroom.tracking.recorder import Recorder
from darkroom.tracking.records import Metrics, Start, param_text


def sync(*options: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(main, ["sync", *options])
    return outcome.exit_code, outcome.output


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return database.execute(query).fetchall()


def per_epoch(name: str, *values: float) -> list[tuple[str, int, float]]:
    return [(name, epoch, value) for epoch, value in enumerate(values, start=1)]


def test_results_without_a_run_are_logged_from_their_files_once(made_elsewhere: Path) -> None:
    code, output = sync()
    assert code == 0, output
    assert "train logged from its files" in output
    names = rows(made_elsewhere, "select name, status from runs order by name")
    assert names == [("evaluate", "FINISHED"), ("train", "FINISHED")]
    of_train = "run_uuid = (select run_uuid from runs where name = 'train')"
    assert dict(rows(made_elsewhere, f"select key, value from params where {of_train}")) == {
        "train.lr": "0.1",
        "train.epochs": "2",
        "seed": "0",
    }
    points = rows(
        made_elsewhere, f"select key, step, value from metrics where {of_train} order by key, step"
    )
    assert points == [
        ("test/f1_macro", 0, 0.875),
        *per_epoch("train/loss", 2.5, 1.5, 1.25),
        *per_epoch("train/lr", 0.1, 0.05, 0.025),
        *per_epoch("val/best_f1_macro", 0.5, 0.75, 0.75),
        *per_epoch("val/f1_macro", 0.5, 0.75, 0.625),
        *per_epoch("val/f1_standard_error", 0.125, 0.0625, 0.25),
        *per_epoch("val/kept_epoch", 1, 2, 2),
        *per_epoch("val/kept_f1_macro", 0.5, 0.75, 0.75),
        *per_epoch("val/kept_loss", 2.25, 1.25, 1.25),
        *per_epoch("val/loss", 2.25, 1.25, 1.5),
    ]
    latest = f"select key, value from latest_metrics where {of_train}"
    assert dict(rows(made_elsewhere, latest))["val/kept_f1_macro"] == 0.75  # which the table shows
    assert sync() == (0, "sync: mlflow.db has everything\n")
    assert len(rows(made_elsewhere, "select * from runs")) == 2


@pytest.mark.slow
def test_a_run_that_another_machine_left_unfinished_is_completed_and_nothing_is_logged_twice(
    made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are in no commit, so each machine restores them with a time of its own."""
    sync()
    everything = "select run_uuid, key, value, step, timestamp from metrics order by 1, 2, 4, 5"
    before = rows(made_elsewhere, everything)
    client = MlflowClient(f"sqlite:///{made_elsewhere / 'mlflow.db'}")
    runs = rows(made_elsewhere, "select run_uuid, name from runs order by name")
    for run_id, _ in runs:
        client.update_run(run_id, status="RUNNING")
    monkeypatch.setattr("darkroom.tracking.mlflow.elected.STALLED_SECONDS", 0.1)
    assert sync()[0] == 0
    assert rows(made_elsewhere, "select run_uuid, name from runs order by name") == runs
    assert {status for (status,) in rows(made_elsewhere, "select status from runs")} == {"FINISHED"}
    assert rows(made_elsewhere, everything) == before


def test_another_parameter_is_another_result_though_the_bytes_are_the_same(made_elsewhere: Path) -> None:
    sync()
    lock = (made_elsewhere / "dvc.lock").read_text()
    (made_elsewhere / "dvc.lock").write_text(lock.replace("lr: 0.1", "lr: 0.2"))
    assert "train logged from its files" in sync()[1]
    rates = rows(made_elsewhere, "select value from params where key = 'train.lr' order by value")
    assert rates == [("0.1",), ("0.2",)]


def test_a_result_whose_bytes_are_lost_is_named_and_the_others_are_logged(made_elsewhere: Path) -> None:
    (made_elsewhere / "reports/evaluate/predictions.parquet").write_text("changed since")
    code, output = sync()
    assert code == 1
    assert "not logged: evaluate: reports/evaluate/predictions.parquet" in output
    assert rows(made_elsewhere, "select name from runs") == [("train",)]
    assert not list(journals(made_elsewhere))


def test_what_is_not_logged_is_counted_in_the_last_line(made_elsewhere: Path) -> None:
    """It must not say that MLflow has everything."""
    (made_elsewhere / "reports/evaluate/predictions.parquet").write_text("changed since")
    sync()
    code, output = sync()
    assert code == 1
    assert output.splitlines()[-1] == "sync: 1 not logged; mlflow.db is not complete"
    (made_elsewhere / "reports/evaluate/predictions.parquet").write_text("predictions")
    assert sync()[1].splitlines()[-1] == "sync: 0 runs sent, 1 logged from files; mlflow.db"
    assert sync() == (0, "sync: mlflow.db has everything\n")


@pytest.mark.slow
def test_runs_whose_artifacts_are_gone_are_named(made_elsewhere: Path) -> None:
    sync()
    shutil.rmtree(made_elsewhere / "mlartifacts")
    code, output = sync()
    assert code == 1
    runs = rows(made_elsewhere, "select name, run_uuid from runs order by name")
    for name, run_id in runs:
        assert f"sync: the artifacts of {name} (run {run_id}) are gone from mlflow.db; delete" in output
    assert output.splitlines()[-1] == "sync: 2 runs without artifacts; mlflow.db is not complete"
    client = MlflowClient(f"sqlite:///{made_elsewhere / 'mlflow.db'}")
    for _, run_id in runs:
        client.delete_run(run_id)
    assert "train logged from its files" in sync()[1]
    assert sync() == (0, "sync: mlflow.db has everything\n")


def test_a_run_without_one_of_its_folders_is_named_and_the_others_are_not(made_elsewhere: Path) -> None:
    sync()
    [(run_id,)] = rows(made_elsewhere, "select run_uuid from runs where name = 'train'")
    [models] = made_elsewhere.glob(f"mlartifacts/**/{run_id}/artifacts/models")
    shutil.rmtree(models)
    output = sync()[1]
    assert f"the artifacts of train (run {run_id}) are gone" in output
    assert "evaluate" not in output


STAGE = """\
stages:
  train: {cmd: python stages/train.py}
  evaluate:
    foreach: ${sets}
    do: {cmd: python stages/evaluate.py}
"""


@pytest.mark.parametrize(
    ("stages", "params", "is_complete"),
    [
        ("stages:\n  train: {cmd: x}\n", "", True),  # removed
        ("stages:\n  train: {cmd: x}\n  evaluate: {cmd: x}\n", "", False),
        (STAGE, "sets: [a]\n", True),  # it is evaluate@a now
        ("stages: [", "", False),  # nothing shows that it was removed
    ],
)
def test_a_stage_that_dvc_yaml_no_longer_has_is_not_missed(
    made_elsewhere: Path, stages: str, params: str, is_complete: bool
) -> None:
    """A dvc.lock keeps it for ever, and its files may be nowhere, as those of a set fetched before."""
    (made_elsewhere / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (made_elsewhere / "dvc.yaml").write_text(stages)
    (made_elsewhere / "params.yaml").write_text(params)
    (made_elsewhere / "reports/evaluate/predictions.parquet").unlink()
    sync()
    code, output = sync()
    assert (code == 0) == is_complete, output
    assert (output == "sync: mlflow.db has everything\n") == is_complete, output


def test_an_item_that_a_stage_ran_for_and_no_longer_does_is_not_missed(made_elsewhere: Path) -> None:
    lock = (made_elsewhere / "dvc.lock").read_text()
    (made_elsewhere / "dvc.lock").write_text(
        lock.replace("  evaluate:\n    cmd", "  evaluate@b:\n    cmd")
    )
    (made_elsewhere / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (made_elsewhere / "dvc.yaml").write_text(STAGE)
    (made_elsewhere / "reports/evaluate/predictions.parquet").unlink()
    (made_elsewhere / "params.yaml").write_text("sets: [a, b]\n")
    assert "not logged: evaluate@b" in sync()[1]
    (made_elsewhere / "params.yaml").write_text("sets: [a]\n")
    assert sync() == (0, "sync: mlflow.db has everything\n")


MISTAKES = {
    "127.0.0.1:5000": "127.0.0.1:5000 has no scheme; did you mean http://127.0.0.1:5000?",
    "localhost:5000": "localhost:5000 has no scheme; did you mean http://localhost:5000?",
    "mlflow.example.org/x": "mlflow.example.org/x has no scheme; did you mean http://mlflow.example.org/x?",
    "runs.db": "runs.db has no scheme; did you mean sqlite:///runs.db?",
    "./mlruns": "./mlruns is a folder, which MLflow no longer supports; name a server",
    "file:///tmp/runs": "file:///tmp/runs is a folder, which MLflow no longer supports",
    "htp://host": "htp://host has the scheme htp, which MLflow does not know; did you mean http?",
    "ftp://host": "ftp://host has the scheme ftp, which MLflow does not know",
    "http:/host:5000": "http:/host:5000 is not the address of a server, such as http://127.0.0.1:5000",
    "http://": "http:// is not the address of a server",
    "sqlite://x.db": "sqlite://x.db is not the address of a file, such as sqlite:///mlflow.db",
    "http://h 2:5000": "http://*** is not the address of a server",
    "http://host:50x": "http://*** is not the address of a server",
    "http://host:99999": "http://host:99999 is not the address of a server",
    "http://[::1:5000": "http://*** is not the address of a server",
    "C:\\mlruns": "C:\\mlruns is a folder, which MLflow no longer supports",
    " http://host": "' http://host' starts or ends with whitespace",
    "postgresql+foo://host/db": "postgresql+foo://host/db: Can't load plugin",
}


@pytest.mark.parametrize("uri", MISTAKES)
def test_an_address_that_can_never_work_is_told_as_a_mistake(
    uri: str, made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, output = sync()
    assert code == 2
    assert f"MLFLOW_TRACKING_URI: {MISTAKES[uri]}" in output
    assert "out of reach" not in output
    assert not any(made_elsewhere.rglob("mlruns"))


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "HTTPS://user:pw@host/path/",
        "http://[::1]:5000/x",
        "http://user:p/w@host",
        "sqlite:///x.db",
        "sqlite:////tmp/x.db",
        "postgresql+psycopg2://host/db",
        "mysql+pymysql://host/db",
        "databricks",
        "databricks://profile",
        "databricks-uc",
    ],
)
def test_an_address_that_may_work_is_left_to_mlflow(uri: str, tmp_path: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": uri}
    check_settings(Address.of(tmp_path, environ), environ)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 501, "MLFLOW_EXPERIMENT_NAME has 501 characters; MLflow allows 500"),
        ("  ", "MLFLOW_EXPERIMENT_NAME is blank"),
    ],
)
def test_an_experiment_that_mlflow_never_makes_is_told_as_a_mistake(
    name: str, message: str, made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    code, output = sync()
    assert code == 2
    assert message in output


def test_a_longest_name_of_an_experiment_is_taken(
    made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "x" * 500)
    assert sync()[0] == 0


@pytest.mark.slow
def test_a_deleted_experiment_is_named_with_both_ways_out(
    inline_sender: None,
    made_elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sync()
    client = MlflowClient(f"sqlite:///{made_elsewhere / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("darkroom")
    client.delete_experiment(experiment.experiment_id)
    with tracked("later", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
    told = capfd.readouterr().err
    for output in (told, sync()[1]):
        assert "the experiment 'darkroom' in mlflow.db is deleted; restore it with" in output
        assert f"mlflow experiments restore --experiment-id {experiment.experiment_id}`" in output
        assert "or set MLFLOW_EXPERIMENT_NAME to another one" in output
        assert "out of reach" not in output
    assert "the next stage sends it" not in told
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert "1 run sent" in sync("--redirect")[1]


def test_a_server_that_is_away_loses_nothing(
    inline_sender: None, made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracked("later", load_runtime()) as run:
        run.log_metrics({"a": 1.0})
    code, output = sync()
    assert code == 2
    assert "http://127.0.0.1:9 is out of reach (Connection refused); 1 run is waiting" in output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, output = sync()
    assert "1 run for http://127.0.0.1:9 not sent" in output
    assert ("later",) not in rows(made_elsewhere, "select name from runs")
    code, output = sync("--redirect")
    assert (code, "1 run sent" in output) == (0, True), output
    assert ("later",) in rows(made_elsewhere, "select name from runs")
    assert not list(journals(made_elsewhere))


def test_a_run_whose_process_died_is_closed_as_killed(made_elsewhere: Path) -> None:
    start = Start(
        stage="train", name="died", tags={}, destination="", address="", timestamp_ms=1_700_000_000_000
    )
    writer = create_journal(made_elsewhere, start)
    writer.append(Metrics(values={"a": 1.0}, step=3, timestamp_ms=1_700_000_005_000))
    writer.journal.release()  # as the end of its process does
    assert sync()[0] == 0
    told = rows(made_elsewhere, "select status, end_time from runs where name = 'died'")
    assert told == [("KILLED", 1_700_000_005_000)]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "mlflow.db",
            "1 run for another experiment in mlflow.db not sent; set MLFLOW_EXPERIMENT_NAME to",
        ),
        ("http://host", "1 run for http://host not sent; set MLFLOW_TRACKING_URI to that address"),
    ],
)
def test_a_run_for_another_place_is_told_with_the_setting_that_sends_it(
    address: str, said: str, made_elsewhere: Path
) -> None:
    start = Start(
        stage="train", name="other", tags={}, destination="0" * 16, address=address, timestamp_ms=1_000
    )
    create_journal(made_elsewhere, start).journal.release()
    code, output = sync()
    assert code == 0
    assert said in output
    assert "has everything\n" not in output


@pytest.mark.slow
def test_a_run_that_is_still_at_work_is_left_to_its_own_sender(made_elsewhere: Path) -> None:
    recorder = Recorder(made_elsewhere, "working", seconds=60)
    try:
        code, output = sync()
        assert code == 0
        assert "1 run still in progress" in output
    finally:
        recorder.close("FINISHED")
    assert rows(made_elsewhere, "select status from runs where name = 'working'") == [("FINISHED",)]


def result(rate: float = 0.1, md5: str = "m") -> Result:
    return Result(
        "train", {"train.lr": rate}, {}, {"models/model.safetensors": Content(md5, 1)}, "c" * 40
    )


def known(experiment: str = "", md5: str = "m", status: str = "FINISHED", rate: str = "0.1") -> KnownRun:
    tags = {"stage": "train", "dvc.output": md5, "dvc.experiment": experiment}
    return KnownRun("r" * 32, "train", status, 0, {"train.lr": rate}, {}, tags)


@pytest.mark.parametrize(
    ("run", "experiment", "is_missing"),
    [
        (known(), "", False),
        (known(rate="1e-1"), "", False),
        (known("one"), "", False),
        (known("one"), "one", False),
        (known(md5="other"), "", True),
        (known(status="KILLED"), "", True),
        (known(rate="0.2"), "", True),
        (known("two"), "one", True),
        (known(), "one", True),
    ],
)
def test_a_result_is_missing_unless_a_finished_run_made_the_same(
    run: KnownRun, experiment: str, is_missing: bool
) -> None:
    wanted = [Missing(result(), Revision("ccccccc", "c" * 40), experiment)]
    missing = list(missing_results(wanted, [run]))
    assert bool(missing) == is_missing
    if is_missing and run.produced(result()):
        assert missing[0].original == run.run_id


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0, "0"), (0.0, "0"), (8.0, "8"), (0.05, "0.05"), (1e20, "1e+20"),
     ([1, 2], "[1, 2]"), ({"a": 1}, '{"a": 1}'), ("x", "x")],
)  # fmt: skip
def test_parameters_as_text(value: object, text: str) -> None:
    assert param_text(value) == text


def test_one_broken_lock_in_history_is_skipped_and_named(made_elsewhere: Path) -> None:
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")

    def commit() -> str:
        for command in (("add", "dvc.lock"), ("commit", "--quiet", "--message", "lock")):
            subprocess.run([*git, *command], cwd=made_elsewhere, check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], cwd=made_elsewhere, capture_output=True)
        return done.stdout.decode()[:7]

    subprocess.run([*git, "init", "--quiet"], cwd=made_elsewhere, check=True)
    whole = (made_elsewhere / "dvc.lock").read_text()
    broken = []
    for text in ("a: &a [*a]", whole.replace("schema", "<<<<<<<"), "x" * 2_000_000):
        (made_elsewhere / "dvc.lock").write_text(text)
        broken.append(commit())
    (made_elsewhere / "dvc.lock").write_text(whole)
    commit()
    code, output = sync("--all-commits")
    assert code == 1
    assert "2 logged from files" in output
    for name in broken:
        assert any(name in line and line.endswith("; skipped") for line in output.splitlines()), output
