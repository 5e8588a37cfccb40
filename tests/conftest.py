"""An environment without settings of MLflow, DVC or git, and one small run of the whole pipeline."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from project import Project, small_project

SETTINGS = (
    "DVC_EXP_NAME",
    "DVC_ROOT",
    "GIT_DIR",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_TRACKING_URI",
    "RANK",
    "_MLFLOW_SERVER_ARTIFACT_ROOT",
)


@pytest.fixture(autouse=True)
def clean_environ() -> None:
    """No test sees the settings of whoever runs it, or what MLflow set in an earlier test."""
    for name in SETTINGS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small project after `dvc repro`. Tests that change it put it back."""
    project = small_project(tmp_path_factory.mktemp("project"))
    project.first_output = project.dvc("repro")
    project.commit("results")
    return project
