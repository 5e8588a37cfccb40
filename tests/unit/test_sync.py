"""`darkroom sync`: what waits is sent, what has no run gets one, and what cannot be had is named."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from darkroom.cli import main
from darkroom.runtime import Runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.events import param_text
from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.journal.records import Metrics, Start
from darkroom.tracking.ledger.dvc_hash import dvc_md5
from darkroom.tracking.ledger.missing import missing_results
from darkroom.tracking.ledger.restored import Missing
from darkroom.tracking.ledger.results import Content, Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.ledger.runs import KnownRun
from darkroom.tracking.mlflow.store import open_store
from darkroom.tracking.recorder import Recorder

HISTORY = (
    "epoch,lr,train_loss,val_loss,val_f1_macro,is_best\n"
    "1,0.1,2.5,2.25,0.5,True\n"
    "2,0.05,1.5,1.25,0.75,True\n"
)

INFO = {"digest": "d" * 64, "class_names": ["a", "b"]}

FILES = {
    "data/prepared/dataset.json": json.dumps(INFO),
    "models/model.safetensors": "weights",
    "reports/train/history.csv": HISTORY,
    "reports/evaluate/metrics.json": json.dumps({"test": {"f1_macro": 0.875, "per_class": []}}),
    "reports/evaluate/predictions.parquet": "predictions",
}


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs: making one takes some seconds."""
    root = tmp_path_factory.mktemp("empty")
    open_store(root, Address.of(root, {}))
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_mlflow: Path) -> Path:
    """A folder with results and their dvc.lock, as after `dvc pull`, and an MLflow without runs."""
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(empty_mlflow, tmp_path)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_lock(tmp_path)
    return tmp_path


def write_lock(folder: Path) -> None:
    def entries(*paths: str) -> list[dict[str, Any]]:
        return [{"path": path, "hash": "md5", "md5": dvc_md5(folder / path)} for path in paths]

    stages = {
        "train": {
            "cmd": "python stages/train.py",
            "deps": entries("data/prepared/dataset.json"),
            "params": {"params.yaml": {"train": {"lr": 0.1, "epochs": 2}, "seed": 0}},
            "outs": entries("models/model.safetensors", "reports/train"),
        },
        "evaluate": {
            "cmd": "python stages/evaluate.py",
            "deps": entries("models/model.safetensors"),
            "params": {"params.yaml": {"evaluate": {"batch_size": 256}}},
            "outs": entries("reports/evaluate/metrics.json", "reports/evaluate/predictions.parquet"),
        },
    }
    with (folder / "dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)


def sync(*options: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(main, ["sync", *options])
    return outcome.exit_code, outcome.output


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return database.execute(query).fetchall()


def test_results_without_a_run_are_logged_from_their_files_once(project: Path) -> None:
    code, output = sync()
    assert code == 0, output
    assert "train logged from its files" in output
    names = rows(project, "select name, status from runs order by name")
    assert names == [("evaluate", "FINISHED"), ("train", "FINISHED")]
    of_train = "run_uuid = (select run_uuid from runs where name = 'train')"
    assert dict(rows(project, f"select key, value from params where {of_train}")) == {
        "train.lr": "0.1",
        "train.epochs": "2",
        "seed": "0",
    }
    points = rows(project, f"select key, step, value from metrics where {of_train} order by key, step")
    assert points == [
        ("test/f1_macro", 0, 0.875),
        ("train/loss", 1, 2.5),
        ("train/loss", 2, 1.5),
        ("train/lr", 1, 0.1),
        ("train/lr", 2, 0.05),
        ("val/f1_macro", 1, 0.5),
        ("val/f1_macro", 2, 0.75),
        ("val/loss", 1, 2.25),
        ("val/loss", 2, 1.25),
    ]
    assert sync() == (0, "sync: mlflow.db has everything\n")
    assert len(rows(project, "select * from runs")) == 2


def test_another_parameter_is_another_result_though_the_bytes_are_the_same(project: Path) -> None:
    sync()
    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(lock.replace("lr: 0.1", "lr: 0.2"))
    assert "train logged from its files" in sync()[1]
    rates = rows(project, "select value from params where key = 'train.lr' order by value")
    assert rates == [("0.1",), ("0.2",)]


def test_a_result_whose_bytes_are_lost_is_named_and_the_others_are_logged(project: Path) -> None:
    (project / "reports/evaluate/predictions.parquet").write_text("changed since")
    code, output = sync()
    assert code == 1
    assert "not logged: evaluate: reports/evaluate/predictions.parquet" in output
    assert rows(project, "select name from runs") == [("train",)]
    assert not list(journals(project))


def test_a_server_that_is_away_loses_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracked("later", Runtime()) as run:
        run.log_metrics({"a": 1.0})
    code, output = sync()
    assert code == 2
    assert "http://127.0.0.1:9 is out of reach (Connection refused); 1 run waits" in output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, output = sync()
    assert "1 run for http://127.0.0.1:9 not sent" in output
    assert ("later",) not in rows(project, "select name from runs")
    code, output = sync("--redirect")
    assert (code, "1 run sent" in output) == (0, True), output
    assert ("later",) in rows(project, "select name from runs")
    assert not list(journals(project))


def test_a_run_whose_process_died_is_closed_as_killed(project: Path) -> None:
    start = Start(
        stage="train", name="died", tags={}, destination="", address="", timestamp_ms=1_700_000_000_000
    )
    writer = Journal.create(project, start)
    writer.append(Metrics(values={"a": 1.0}, step=3, timestamp_ms=1_700_000_005_000))
    writer.journal.release()  # as the end of its process does
    assert sync()[0] == 0
    told = rows(project, "select status, end_time from runs where name = 'died'")
    assert told == [("KILLED", 1_700_000_005_000)]


def test_a_run_that_is_still_at_work_is_left_to_its_own_sender(project: Path) -> None:
    recorder = Recorder(project, "working")
    try:
        code, output = sync()
        assert code == 0
        assert "1 run still at work" in output
    finally:
        recorder.close("FINISHED")
    assert rows(project, "select status from runs where name = 'working'") == [("FINISHED",)]


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
    if is_missing and run.made(result()):
        assert missing[0].original == run.run_id


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0, "0"), (0.0, "0"), (8.0, "8"), (0.05, "0.05"), (1e20, "1e+20"),
     ([1, 2], "[1, 2]"), ({"a": 1}, '{"a": 1}'), ("x", "x")],
)  # fmt: skip
def test_parameters_as_text(value: object, text: str) -> None:
    assert param_text(value) == text
