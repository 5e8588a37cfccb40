"""One tiny project with commits and experiments, for the tests that read them."""

import pytest
from project import Project
from tiny import history


@pytest.fixture(scope="session")
def tiny_history(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three commits and three experiments. Tests that change it copy it."""
    return history(tmp_path_factory.mktemp("tiny") / "project")
