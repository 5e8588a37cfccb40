"""Where MLflow keeps runs: a database in the project's folder, or the server that is asked for."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.address import Address
from darkroom.tracking.relocate import ARTIFACTS, DATABASE, database_lock, relocate
from darkroom.tracking.sender import QUIET
from darkroom.tracking.view import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


@dataclass(frozen=True)
class Store:
    """An open connection to MLflow, and the experiment that takes the runs."""

    client: "MlflowClient"
    experiment: "Experiment"
    uri: str
    database: Path | None = None
    """The file of the embedded one."""
    inode: int = 0

    def is_replaced(self) -> bool:
        """Returns whether the file that was opened is no longer the one that lies there."""
        return self.database is not None and _inode(self.database) != self.inode


def open_store(root: Path, address: Address) -> Store:
    """Opens the MLflow at ``address``.

    Artifacts of the embedded database lie in ``mlartifacts`` beside it, also after the project was
    moved; a server has a place of its own for them.
    """
    for name, value in QUIET.items():  # MLflow reads some of them while it is imported
        os.environ.setdefault(name, value)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    artifacts = (root / ARTIFACTS).as_uri() if address.is_embedded else None
    if artifacts:
        # where MLflow would else make an empty folder `mlruns`; ignored by versions without it
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", artifacts)
    if address.uri.startswith("sqlite:"):
        # processes that find a fresh database at once would all migrate it, and crash
        with database_lock(root):
            if address.is_embedded:
                relocate(root)
            return _connect(root, address, artifacts)
    return _connect(root, address, artifacts)


def _connect(root: Path, address: Address, artifacts: str | None) -> Store:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address.uri)
    experiment = client.get_experiment_by_name(address.experiment)
    if experiment is None:
        experiment = client.get_experiment(client.create_experiment(address.experiment, artifacts))
    for key, value in experiment_tags().items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    database = root / DATABASE if address.is_embedded else None
    return Store(client, experiment, address.uri, database, _inode(database) if database else 0)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
