"""`darkroom trace`: files are known by their contents, runs by their ids and names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from handmade import FILES, INFO

from darkroom.cli import main
from darkroom.tracking.ledger.dvc_hash import dvc_md5

pytestmark = pytest.mark.slow

MODEL = "models/model.safetensors"


def run(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(main, [*arguments])
    return outcome.exit_code, outcome.output


def trails(name: str) -> list[dict[str, Any]]:
    code, output = run("trace", name, "--json")
    assert code == 0, output
    found: list[dict[str, Any]] = json.loads(output[output.index("{") :])["trails"]
    return found


@pytest.fixture
def synced(made_elsewhere: Path) -> Path:
    assert run("sync")[0] == 0
    return made_elsewhere


@pytest.mark.parametrize("path", [name for name in FILES if "dataset" not in name])
def test_a_file_that_was_renamed_leads_to_its_training(synced: Path, path: str) -> None:
    posted = shutil.copy(path, synced / "from a letter")
    [trail] = trails(f"{posted}")
    assert trail["model_md5"] == dvc_md5(synced / MODEL)
    assert {known["name"] for known in trail["runs"]} == {"train", "evaluate"}
    assert trail["params"] == {"train.lr": 0.1, "train.epochs": 2, "seed": 0}
    assert trail["metrics"]["test/f1_macro"] == 0.875
    assert [revision["name"] for revision in trail["revisions"]] == ["workspace"]


def test_a_file_that_was_changed_leads_nowhere(synced: Path) -> None:
    (synced / MODEL).write_text("other weights")
    code, output = run("trace", MODEL)
    assert code == 2
    assert "no dvc.lock of this repository, and no run, has these contents" in output


def test_runs_and_the_folder_lead_to_the_same(synced: Path) -> None:
    [trail] = trails("workspace")
    for known in trail["runs"]:
        assert trails(known["run_id"]) == [trail]
        assert trails(known["name"]) == [trail]
    code, output = run("trace", "0" * 32)
    assert (code, "there is no file, run" in output) == (2, True)


def test_a_folder_is_known_too(synced: Path) -> None:
    assert [trail["model_md5"] for trail in trails("reports/train")] == [dvc_md5(synced / MODEL)]


def test_without_mlflow_the_files_still_tell(
    made_elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, output = run("trace", MODEL)
    assert code == 0
    assert "MLflow could not be read (Connection refused)" in output
    assert "test/f1_macro 0.875" in output
    assert "train.lr 0.1" in output


def test_what_is_printed_names_data_runs_and_scores(synced: Path) -> None:
    code, output = run("trace", MODEL)
    assert code == 0
    for part in ("written by train", "read by evaluate", "run       train,", "folder ", "FINISHED"):
        assert part in output, part
    assert "train.lr 0.1" in output
    assert INFO["digest"] not in output  # there is no prepare in this dvc.lock
