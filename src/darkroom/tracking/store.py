"""Where MLflow keeps runs: a database in the project's folder, or the server that is asked for."""

import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.tracking.relocate import ARTIFACTS, DATABASE, database_lock, relocate
from darkroom.tracking.root import project_root
from darkroom.tracking.view import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_EXPERIMENT = "darkroom"

# What MLflow does unasked. It reads the first while it is imported, so these are set before that.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 would hold a stage for 4 minutes
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Store:
    """An open connection to MLflow, and the experiment that takes the runs."""

    client: "MlflowClient"
    experiment: "Experiment"
    uri: str


def open_store() -> Store:
    """Opens the store that ``MLFLOW_TRACKING_URI`` names, else ``mlflow.db`` in the project's root.

    With the embedded database, artifacts lie in ``mlartifacts`` beside it, also after the project was
    moved; a server has a place of its own for them.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    root = project_root()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given or f"sqlite:///{root / DATABASE}"
    artifacts = None if given else (root / ARTIFACTS).as_uri()
    if artifacts:
        # where MLflow would else make an empty folder `mlruns`; ignored by versions without it
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", artifacts)
    if uri.startswith("sqlite:"):
        # processes that find a fresh database at once would all migrate it, and crash
        with database_lock(root):
            if not given and not (root / DATABASE).exists():
                print(f"tracking: making {DATABASE}, once", file=sys.stderr)
            if not given:
                relocate(root)
            return _connect(uri, artifacts)
    return _connect(uri, artifacts)


def _connect(uri: str, artifacts: str | None) -> Store:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        experiment = client.get_experiment(client.create_experiment(name, artifacts))
    for key, value in experiment_tags().items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return Store(client, experiment, uri)
