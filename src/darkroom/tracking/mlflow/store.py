"""Opens the MLflow that keeps the runs: a database in the project, or the server in the environment."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import Misconfigured, OutOfReach, reason
from darkroom.tracking.mlflow.conflicts import again_on_conflict, is_conflict
from darkroom.tracking.mlflow.relocate import ARTIFACTS, DATABASE, database_lock, relocate
from darkroom.tracking.mlflow.usable import check_settings
from darkroom.tracking.mlflow.view import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


# Switches off what MLflow does unasked; set before it is imported.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender retries, and nobody waits for it
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # otherwise uploads bypass the server, to its bucket, which may be out of reach
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

MAY_PASS = (401, 403, 408, 425, 429)
"""HTTP statuses of failures that may be temporary: a password may be corrected, a rate limit may end."""

_opened: dict[Path, int] = {}
"""Inodes of the databases that were opened (see ``_inode``); -1 if opening failed."""

_num_reopened = 0


@dataclass(frozen=True)
class Store:
    """An open connection to MLflow, and the experiment that gets the runs."""

    address: Address
    client: "MlflowClient"
    experiment: "Experiment"
    uri: str
    database: Path | None = None
    """The file of the embedded database."""
    inode: int = 0

    def is_replaced(self) -> bool:
        """Return whether another file has replaced the database that was opened."""
        return self.database is not None and _inode(self.database) != self.inode


def open_store(root: Path, address: Address) -> Store:
    """Open the MLflow at ``address``, and create the experiment if necessary.

    Artifacts of the embedded database are in ``mlartifacts`` beside it, even after the project was
    moved; a server has a place of its own for them.

    Raises:
        OutOfReach: MLflow does not answer; ``Misconfigured`` if the settings must be corrected first.
    """
    with _alone(root, address), _failures(address):
        client = _connect(root, address)
        experiment = again_on_conflict(lambda: _see_to_experiment(client, root, address))
    database = root / DATABASE if address.is_embedded else None
    inode = _inode(database) if database else 0
    return Store(address, client, experiment, client.tracking_uri, database, inode)


def open_client(root: Path, address: Address) -> "MlflowClient":
    """Open the MLflow at ``address`` without creating anything.

    Raises:
        OutOfReach: MLflow does not answer; ``Misconfigured`` if the settings must be corrected first.
    """
    with _alone(root, address), _failures(address):
        return _connect(root, address)


def check_active(experiment: "Experiment", address: Address) -> None:
    """Reject a deleted experiment: MLflow keeps its name, and refuses runs for it.

    Raises:
        Misconfigured: the message names both remedies.
    """
    if experiment.lifecycle_stage != "active":
        database = f"MLFLOW_TRACKING_URI=sqlite:///{DATABASE} " if address.is_embedded else ""
        raise Misconfigured(
            f"the experiment {address.experiment!r} in {address} is deleted; restore it with "
            f"`{database}mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "set MLFLOW_EXPERIMENT_NAME to another one"
        )


def _see_to_experiment(client: "MlflowClient", root: Path, address: Address) -> "Experiment":
    experiment = client.get_experiment_by_name(address.experiment)
    if experiment is None:
        artifacts = _artifacts(root) if address.is_embedded else None
        experiment_id = client.create_experiment(address.experiment, artifacts)
        experiment = client.get_experiment(experiment_id)
    check_active(experiment, address)
    for key, value in experiment_tags().items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return experiment


@contextmanager
def _failures(address: Address) -> Iterator[None]:
    """Distinguish temporary failures from permanent ones, whatever library raises them."""
    try:
        yield
    except OutOfReach:
        raise
    except Exception as error:
        status = getattr(error, "get_http_status_code", int)()
        if isinstance(error, ImportError):  # a database's driver
            raise Misconfigured(f"{address} needs a package that is missing: {reason(error)}") from error
        if type(error).__name__ == "NoSuchModuleError":  # unknown driver
            raise Misconfigured(f"MLFLOW_TRACKING_URI: {address}: {reason(error)}") from error
        if 400 <= status < 500 and status not in MAY_PASS and not is_conflict(error):
            raise Misconfigured(f"{address} refuses every run: {reason(error)}") from error
        raise OutOfReach(reason(error)) from error


@contextmanager
def as_default(uri: str) -> Iterator[None]:
    """Make ``uri`` MLflow's global address while the block runs; the environment is restored."""
    import mlflow

    earlier = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # also changes the environment
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if earlier is not None:
            os.environ["MLFLOW_TRACKING_URI"] = earlier


def _alone(root: Path, address: Address) -> AbstractContextManager[object]:
    """Keep several processes from creating the same database at once, which makes them crash."""
    return database_lock(root) if address.uri.startswith("sqlite:") else nullcontext()


def _connect(root: Path, address: Address) -> "MlflowClient":
    check_settings(address)
    for name, value in QUIET.items():  # MLflow reads some of them when it is imported
        os.environ.setdefault(name, value)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if address.is_embedded:
        # otherwise MLflow creates an empty folder `mlruns`
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", _artifacts(root))
        relocate(root)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=_spelled(root / DATABASE) if address.is_embedded else address.uri)
    if address.is_embedded:
        _opened[root / DATABASE] = _inode(root / DATABASE)
    return client


def _spelled(database: Path) -> str:
    """Return the address of a database, in a new spelling if its file was replaced.

    MLflow caches connections by address, also those to a file that was deleted or is incomplete.
    """
    global _num_reopened
    inode = _inode(database)
    if _opened.get(database, inode) != inode:
        _num_reopened += 1
    _opened[database] = -1
    spelling = "".join("/." if bit == "1" else "/" for bit in f"{_num_reopened:b}".lstrip("0"))
    return f"sqlite:///{database.parent}{spelling}/{database.name}"


def _artifacts(root: Path) -> str:
    return (root / ARTIFACTS).as_uri()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
