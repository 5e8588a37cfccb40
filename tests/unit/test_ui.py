"""What `make ui` finds out before it serves, and the table that MLflow's page opens with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from darkroom.tracking.address import Address
from darkroom.tracking.mlflow.store import Store, open_store
from darkroom.tracking.mlflow.view import VIEW_TAG

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def database(empty_mlflow: Path, project: Path) -> Path:
    return Path(shutil.copy(empty_mlflow, project))


def opened(project: Path) -> Store:
    return open_store(project, Address.of(project))


def told(**env: str) -> list[str]:
    """The lines that tools/ui.sh asks for."""
    command = [sys.executable, "-m", "darkroom.tracking.mlflow.ui"]
    result = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


def ui_sh(**env: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ROOT / "tools" / "ui.sh"],
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.usefixtures("database")
def test_the_page_is_the_table_of_models(project: Path) -> None:
    store = opened(project)
    number = store.experiment.experiment_id
    client = MlflowClient(store.uri)
    tags = client.get_experiment(number).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(tags[VIEW_TAG])
    assert view["selectedColumns"][0] == "metrics.`test/f1_macro`"
    address = f"/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=darkroom"
    assert told() == [str(project), address, "mlflow.db"]


@pytest.mark.usefixtures("database")
def test_an_experiment_made_before_gets_its_view_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(project).client
    number = client.create_experiment("older")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "older")
    store = opened(project)
    assert VIEW_TAG in client.get_experiment(number).tags
    changed = client.get_experiment(number).last_update_time
    opened(project)
    assert client.get_experiment(number).last_update_time == changed
    # the newest is the one to look at
    assert told()[1].startswith(f"/experiments/{store.experiment.experiment_id}/")


def test_where_no_experiment_is_known_the_page_lists_them(project: Path) -> None:
    listed = "/experiments?workflowType=machine_learning"
    assert told() == [str(project), listed, "mlflow.db"]
    (project / "mlflow.db").touch()
    assert told() == [str(project), listed, "mlflow.db"]
    shown = [str(project), listed, "postgresql://db/runs"]
    assert told(MLFLOW_TRACKING_URI="postgresql://ada:Zq7/xYw9k@db/runs?x=y") == shown


def test_nothing_to_serve_is_said(project: Path) -> None:
    none, elsewhere = ui_sh(), ui_sh(MLFLOW_TRACKING_URI="http://somewhere:5000")
    assert (none.returncode, elsewhere.returncode) == (2, 2)
    assert none.stderr == "ui: there are no runs yet; make some with: make repro\n"
    assert elsewhere.stderr == "ui: the runs are on a server: http://somewhere:5000\n"
    assert not (project / "mlflow.db").exists()
