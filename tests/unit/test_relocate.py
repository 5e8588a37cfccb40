"""A project that moved or was copied finds its runs' artifacts; what lies elsewhere is left alone."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from darkroom.tracking.address import Address
from darkroom.tracking.mlflow.relocate import relocate
from darkroom.tracking.mlflow.store import Store, open_store
from darkroom.tracking.root import project_root

ELSEWHERE = {
    "bucket": "s3://bucket/mlartifacts",
    "scheme": "mlflow-artifacts:/mlartifacts",
    "folder": "file:///data/runs/7",
    "longer name": "file:///data/mlartifacts-of-others",
    "below": "file:///data/mlartifacts/of/others",
}
"""Locations of experiments that are nobody's former place."""


def opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of the project in ``root``, as a fresh process opens it."""
    monkeypatch.delenv("_MLFLOW_SERVER_ARTIFACT_ROOT", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(root))
    return open_store(root, Address.of(root))


def log_run(store: Store, text: str) -> str:
    run = store.client.create_run(store.experiment.experiment_id)
    store.client.log_text(run.info.run_id, text, "reports/a b.txt")
    return run.info.run_id


def read_run(store: Store, run_id: str, tmp_path: Path) -> str:
    return Path(store.client.download_artifacts(run_id, "reports/a b.txt", str(tmp_path))).read_text()


Filled = Callable[[Path], tuple[str, str]]


@pytest.fixture
def filled(empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """Makes a project with a run, a logged model and two registered versions of it."""
    return lambda root: fill(root, empty_mlflow, monkeypatch)


def fill(root: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    root.mkdir()
    shutil.copy(empty_mlflow, root)
    store = opened(root, monkeypatch)
    client, experiment_id = store.client, store.experiment.experiment_id
    run_id = log_run(store, "before")
    model = client.create_logged_model(experiment_id, "net", run_id)
    (root / "weights").write_text("weights")
    client.log_model_artifact(model.model_id, str(root / "weights"))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("net")
    mlflow.set_tracking_uri(store.uri)  # the registry looks for a models:/ address there
    client.create_model_version("net", f"models:/{model.model_id}")
    mlflow.set_tracking_uri(None)
    client.create_model_version("net", client.get_logged_model(model.model_id).artifact_location)
    # as `mlflow ui` makes one in the browser, where it is given a plain path for artifacts
    client.create_experiment("by hand", str(root / "mlartifacts" / "2"))
    return run_id, model.model_id


def dump(root: Path) -> str:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return "\n".join(database.iterdump())


@pytest.mark.parametrize("name", ["moved", "Bilder für 100% (neu) #1"])
def test_artifacts_are_found_after_a_move(
    name: str,
    filled: Filled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = tmp_path / "old place", tmp_path / "deeper" / name
    run_id, model_id = filled(old)
    new.parent.mkdir()
    old.rename(new)

    capsys.readouterr()
    store = opened(new, monkeypatch)
    assert f"tracking: moved from {old}; " in capsys.readouterr().err
    assert read_run(store, run_id, tmp_path) == "before"
    client = store.client
    locations = [client.get_model_version_download_uri("net", version) for version in ("1", "2")]
    for location in (client.get_logged_model(model_id).artifact_location, *locations):
        downloaded = download_artifacts(location, dst_path=str(tmp_path / "downloaded"))
        assert (Path(downloaded) / "weights").read_text() == "weights"

    later = log_run(store, "after")
    assert (new / "mlartifacts" / later / "artifacts" / "reports" / "a b.txt").read_text() == "after"
    assert not old.exists()
    for form in (str(old), old.as_uri()):
        assert form not in dump(new)

    again = opened(new, monkeypatch)
    assert "moved from" not in capsys.readouterr().err
    assert read_run(again, run_id, tmp_path) == "before"


def test_a_copy_has_artifacts_of_its_own(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    run_id, _ = filled(original)
    before = dump(original)
    shutil.copytree(original, copy)
    store = opened(copy, monkeypatch)
    assert store.client.get_run(run_id).info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
    assert dump(original) == before
    shutil.rmtree(original)
    assert read_run(store, run_id, tmp_path) == "before"


def test_what_lies_elsewhere_is_left_alone(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, chosen = tmp_path / "old", tmp_path / "new", tmp_path / "chosen" / "mlartifacts"
    chosen.mkdir(parents=True)
    old.mkdir()
    shutil.copy(empty_mlflow, old)
    client = opened(old, monkeypatch).client
    locations = {**ELSEWHERE, "chosen": chosen.as_uri()}
    ids = {name: client.create_experiment(name, location) for name, location in locations.items()}
    runs = {name: client.create_run(number).info for name, number in ids.items()}
    old.rename(new)
    client = opened(new, monkeypatch).client
    for name, location in locations.items():
        assert client.get_experiment(ids[name]).artifact_location == location
        assert client.get_run(runs[name].run_id).info.artifact_uri == runs[name].artifact_uri


def test_all_addresses_change_or_none(filled: Filled, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    filled(old)
    old.rename(new)
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    before = dump(new)
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        relocate(new)
    assert dump(new) == before


@pytest.mark.parametrize(
    "statements",
    [
        [],
        ["CREATE TABLE experiments (artifact_location)"],
        [
            "CREATE TABLE experiments (artifact_location)",
            "INSERT INTO experiments VALUES ('file:///gone/mlartifacts')",
            "CREATE TABLE runs (run_uuid)",
            "CREATE TABLE model_versions (source)",
            "INSERT INTO model_versions VALUES ('file:///gone/mlartifacts/m')",
        ],
    ],
    ids=["empty", "no experiments", "fewer tables and columns"],
)
def test_another_schema_of_mlflow_is_borne(statements: list[str], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    present = (tmp_path / "mlartifacts").as_uri()
    num_changed = relocate(tmp_path)
    assert num_changed == dump(tmp_path).count(present) == (2 if len(statements) > 2 else 0)


def test_no_database_is_made(tmp_path: Path) -> None:
    assert relocate(tmp_path) == 0
    assert not list(tmp_path.iterdir())


def test_the_root_is_dvcs_then_the_nearest_project_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "project" / "data" / "mine"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert project_root() == below
    (tmp_path / "project" / ".dvc").mkdir()
    assert project_root() == tmp_path / "project"
    (below / "images.dvc").touch()
    (below.parent / ".dvc").touch()  # a file of that name is none of DVC's
    assert project_root() == tmp_path / "project"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert project_root() == tmp_path


def test_a_command_in_a_subfolder_finds_the_projects_database(filled: Filled, tmp_path: Path) -> None:
    root, below = tmp_path / "project", tmp_path / "project" / "data"
    filled(root)
    (root / ".dvc").mkdir()
    below.mkdir()
    moved = root.rename(tmp_path / "moved")
    env = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    result = subprocess.run(
        [sys.executable, "-m", "darkroom.tracking.mlflow.ui"],
        cwd=moved / "data",
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    client = MlflowClient(f"sqlite:///{moved}/mlflow.db")
    experiment = client.get_experiment_by_name("darkroom")
    assert experiment is not None
    root, page, address = result.stdout.splitlines()
    assert root == str(moved)
    assert address == "mlflow.db"
    assert page.startswith(f"/experiments/{experiment.experiment_id}/runs?")
    assert experiment.artifact_location == (moved / "mlartifacts").as_uri()
