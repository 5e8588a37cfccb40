"""Projects that several tests look at."""

import shutil
from pathlib import Path

import pytest
from handmade import write_results
from project import Project
from tiny import history

from darkroom.tracking.address import Address
from darkroom.tracking.mlflow.store import open_store


@pytest.fixture(scope="session")
def tiny_history(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three commits and three experiments. Tests that change it copy it."""
    return history(tmp_path_factory.mktemp("tiny") / "project")


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs: making one takes some seconds."""
    root = tmp_path_factory.mktemp("empty")
    open_store(root, Address.of(root, {}))
    return root / "mlflow.db"


@pytest.fixture
def made_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_mlflow: Path) -> Path:
    """The current folder: results with their dvc.lock, as after `dvc pull`, no runs in MLflow."""
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path)
    shutil.copy(empty_mlflow, tmp_path)
    return tmp_path
