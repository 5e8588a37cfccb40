"""An environment without settings of MLflow, DVC or git, and one small run of the whole pipeline."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock
from project import MakeOnce, Project, small_project

from darkroom.compute.determinism import configure_libraries

configure_libraries()  # tests compute alike on every machine

FIRST_OUTPUT = "first_output.txt"

SETTINGS = (
    "DVC_EXP_NAME",
    "DVC_ROOT",
    "GIT_DIR",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_TRACKING_URI",
    "RANK",
    "_MLFLOW_SERVER_ARTIFACT_ROOT",
)


def pytest_configure() -> None:
    """The stages of tests wait longer for MLflow: its sender gets no CPU time that others want."""
    os.environ["DARKROOM_MLFLOW_SECONDS"] = "300"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Python need not search imported modules and collected tests for garbage: there is none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Frees at the end what was frozen, or libraries complain of leaks."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def clean_environ() -> None:
    """No test sees the settings of whoever runs it, or what MLflow set in an earlier test."""
    for name in SETTINGS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Returns the folder of a name, which the first of all pytest-xdist's workers fills."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def empty_mlflow(make_once: MakeOnce) -> Path:
    """An MLflow database without runs, to copy: making one takes seconds.

    Its artifacts lie beside it, wherever a copy of it is.
    """
    from mlflow.store.db import utils

    from darkroom.tracking.address import Address
    from darkroom.tracking.mlflow.store import open_store

    # MLflow loads 67 migrations each time that it opens a database, only to know the newest: here once
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
    return make_once("mlflow", lambda folder: open_store(folder, Address.of(folder, {}))) / "mlflow.db"


def fill_pristine(folder: Path) -> None:
    project = small_project(folder / "project")
    (folder / FIRST_OUTPUT).write_text(project.dvc("repro"))
    project.commit("results")
    project.run("darkroom", "sync")  # waits until MLflow has all: a database in use must not be copied


@pytest.fixture(scope="session")
def pristine(make_once: MakeOnce) -> Project:
    """The small project after `dvc repro`. Nothing may change it: tests copy it."""
    folder = make_once("pristine", fill_pristine)
    project = Project.at(folder / "project")
    project.first_output = (folder / FIRST_OUTPUT).read_text()
    return project


@pytest.fixture(scope="session")
def finished(pristine: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the small project after `dvc repro`. Tests that change it put it back."""
    project = pristine.copy(tmp_path_factory.mktemp("finished") / "project")
    project.first_output = pristine.first_output
    return project
