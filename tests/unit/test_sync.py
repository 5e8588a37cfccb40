"""`darkroom sync`: what waits is sent, what has no run gets one, and what cannot be had is named."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from darkroom.cli import main
from darkroom.runtime import Runtime
from darkroom.tracking.destinations import tracked
from darkroom.tracking.events import param_text
from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.journal.records import Metrics, Start
from darkroom.tracking.ledger.missing import missing_results
from darkroom.tracking.ledger.restored import Missing
from darkroom.tracking.ledger.results import Content, Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.ledger.runs import KnownRun
from darkroom.tracking.recorder import Recorder


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


def test_a_server_that_is_away_loses_nothing(
    made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracked("later", Runtime()) as run:
        run.log_metrics({"a": 1.0})
    code, output = sync()
    assert code == 2
    assert "http://127.0.0.1:9 is out of reach (Connection refused); 1 run waits" in output
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
    writer = Journal.create(made_elsewhere, start)
    writer.append(Metrics(values={"a": 1.0}, step=3, timestamp_ms=1_700_000_005_000))
    writer.journal.release()  # as the end of its process does
    assert sync()[0] == 0
    told = rows(made_elsewhere, "select status, end_time from runs where name = 'died'")
    assert told == [("KILLED", 1_700_000_005_000)]


def test_a_run_that_is_still_at_work_is_left_to_its_own_sender(made_elsewhere: Path) -> None:
    recorder = Recorder(made_elsewhere, "working")
    try:
        code, output = sync()
        assert code == 0
        assert "1 run still at work" in output
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
    if is_missing and run.made(result()):
        assert missing[0].original == run.run_id


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0, "0"), (0.0, "0"), (8.0, "8"), (0.05, "0.05"), (1e20, "1e+20"),
     ([1, 2], "[1, 2]"), ({"a": 1}, '{"a": 1}'), ("x", "x")],
)  # fmt: skip
def test_parameters_as_text(value: object, text: str) -> None:
    assert param_text(value) == text
