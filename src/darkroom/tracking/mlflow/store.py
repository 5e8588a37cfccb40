"""Where MLflow keeps runs: a database in the project's folder, or the server that is asked for."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import Misconfigured, OutOfReach, reason
from darkroom.tracking.mlflow.relocate import ARTIFACTS, DATABASE, database_lock, relocate
from darkroom.tracking.mlflow.usable import check_settings
from darkroom.tracking.mlflow.view import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


# What MLflow does unasked; set before it is imported.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # tried again here, where nobody waits
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # else they bypass a server that passes them on, by way of its bucket, out of reach perhaps
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

MAY_PASS = (401, 403, 408, 425, 429)
"""Statuses of a request that was refused for now: a password may be corrected, a rush may end."""

_opened: dict[Path, int] = {}
"""Databases, and which file that was (see ``_inode``); -1 where that has failed."""

_num_reopened = 0


@dataclass(frozen=True)
class Store:
    """An open connection to MLflow, and the experiment that takes the runs."""

    address: Address
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
    """Opens the MLflow at ``address``, and sees to it that there is the experiment.

    Artifacts of the embedded database lie in ``mlartifacts`` beside it, also after the project was
    moved; a server has a place of its own for them.

    Raises:
        OutOfReach: MLflow does not answer; ``Misconfigured`` if it never will, as things are.
    """
    with _alone(root, address), _failures(address):
        client = _connect(root, address)
        experiment = client.get_experiment_by_name(address.experiment)
        if experiment is None:
            artifacts = _artifacts(root) if address.is_embedded else None
            experiment_id = client.create_experiment(address.experiment, artifacts)
            experiment = client.get_experiment(experiment_id)
        check_active(experiment, address)
        for key, value in experiment_tags().items():
            if experiment.tags.get(key) != value:
                client.set_experiment_tag(experiment.experiment_id, key, value)
    database = root / DATABASE if address.is_embedded else None
    inode = _inode(database) if database else 0
    return Store(address, client, experiment, client.tracking_uri, database, inode)


def open_client(root: Path, address: Address) -> "MlflowClient":
    """Opens the MLflow at ``address`` as it is.

    Raises:
        OutOfReach: MLflow does not answer; ``Misconfigured`` if it never will, as things are.
    """
    with _alone(root, address), _failures(address):
        return _connect(root, address)


def check_active(experiment: "Experiment", address: Address) -> None:
    """Refuses an experiment that was deleted: MLflow keeps its name, and takes no run for it.

    Raises:
        Misconfigured: the message names both ways out.
    """
    if experiment.lifecycle_stage != "active":
        database = f"MLFLOW_TRACKING_URI=sqlite:///{DATABASE} " if address.is_embedded else ""
        raise Misconfigured(
            f"the experiment {address.experiment!r} in {address} is deleted; restore it with "
            f"`{database}mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "name another one by MLFLOW_EXPERIMENT_NAME"
        )


@contextmanager
def _failures(address: Address) -> Iterator[None]:
    """Tells a failure that may pass from one that never will, whatever library it comes from."""
    try:
        yield
    except OutOfReach:
        raise
    except Exception as error:
        status = getattr(error, "get_http_status_code", int)()
        if isinstance(error, ImportError):  # of a database's driver
            raise Misconfigured(f"{address} needs a package that is missing: {reason(error)}") from error
        if type(error).__name__ == "NoSuchModuleError":  # SQLAlchemy does not know the driver
            raise Misconfigured(f"MLFLOW_TRACKING_URI: {address}: {reason(error)}") from error
        if 400 <= status < 500 and status not in MAY_PASS:
            raise Misconfigured(f"{address} refuses every run: {reason(error)}") from error
        raise OutOfReach(reason(error)) from error


@contextmanager
def as_default(uri: str) -> Iterator[None]:
    """Has what asks MLflow's global for an address find this one; the environment stays as it was."""
    import mlflow

    earlier = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # writes into the environment, too
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if earlier is not None:
            os.environ["MLFLOW_TRACKING_URI"] = earlier


def _alone(root: Path, address: Address) -> AbstractContextManager[object]:
    """Keeps processes that find a fresh database at once from migrating it all, and crashing."""
    return database_lock(root) if address.uri.startswith("sqlite:") else nullcontext()


def _connect(root: Path, address: Address) -> "MlflowClient":
    check_settings(address)
    for name, value in QUIET.items():  # MLflow reads some of them while it is imported
        os.environ.setdefault(name, value)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if address.is_embedded:
        # where MLflow would else make an empty folder `mlruns`; ignored by versions without it
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", _artifacts(root))
        relocate(root)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=_spelled(root / DATABASE) if address.is_embedded else address.uri)
    if address.is_embedded:
        _opened[root / DATABASE] = _inode(root / DATABASE)
    return client


def _spelled(database: Path) -> str:
    """Returns the address of a database; spelled as never before, where it is opened anew.

    MLflow keeps a connection by its address: to a file that somebody has deleted, or half made.
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
