"""Projects that several tests look at, and a sender in this process."""

import shutil
from pathlib import Path

import pytest
from compared import commit_both
from handmade import write_results
from inline_sender import InlineSender
from project import MakeOnce, Project
from tiny import TinyProject, history

from darkroom.tracking import recorder


@pytest.fixture(scope="session")
def tiny_history(make_once: MakeOnce) -> Project:
    """Three commits and three experiments. Tests that change it copy it."""
    return TinyProject.at(make_once("tiny", lambda folder: history(folder / "project")) / "project")


@pytest.fixture
def inline_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs reach MLflow from this process: no sender has to start and to import MLflow."""
    monkeypatch.setattr(recorder, "start_sender", InlineSender)
    monkeypatch.setattr(recorder, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(recorder, "TROUBLE_SECONDS", 0.0)  # the next attempt would fail alike


@pytest.fixture
def made_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_mlflow: Path) -> Path:
    """The current folder: results with their dvc.lock, as after `dvc pull`, no runs in MLflow."""
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path)
    shutil.copy(empty_mlflow, tmp_path)
    return tmp_path


@pytest.fixture
def two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two commits with a model each, `bad` and `main`; it has the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    commit_both(tmp_path)
    return tmp_path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for weights of a project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("models/weights")
    folder.mkdir(parents=True)
    return folder
