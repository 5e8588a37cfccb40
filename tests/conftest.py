"""One small run of the whole pipeline, which many tests look at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from project import Project, small_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small project after `dvc repro`. Tests that change it put it back."""
    project = small_project(tmp_path_factory.mktemp("project"))
    project.first_output = project.dvc("repro")
    project.commit("results")
    return project
