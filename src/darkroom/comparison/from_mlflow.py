"""Models from MLflow: of a run, or a registered version."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from darkroom.comparison.from_dvc import EVALUATE, of_results, workspace_digest
from darkroom.comparison.predictions import NotComparableError, Predictions
from darkroom.comparison.side import Side
from darkroom.errors import UserError, brief, listed
from darkroom.paths import MANIFEST, METRICS, MODEL, PREDICTIONS
from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import reason
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.revisions import Revisions
from darkroom.tracking.root import project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from darkroom.tracking.mlflow.promotion import Registry, Version

RUN_ID = re.compile(r"[0-9a-f]{32}")
VERSION = re.compile(r"(?:version:|models:/([^/@]+)/)(\d+)")
ALIAS = re.compile(r"(?:models:/([^/@]+)@)?(champion|candidate)")


def of_run(name: str, title: str = "") -> Side:
    """Return the model of a training's run, or of a run of evaluate or export below it.

    Args:
        name: id or name of the run.
        title: how the model is shown; by default the run's name and the start of its id.

    Raises:
        NotComparableError: it has no predictions.
        UserError: no run or several runs have this name, or its predictions cannot be read.
    """
    with _Mlflow() as client:
        run = _find_run(client, name)
        title = title or f"run {run.info.run_name} {run.info.run_id[:8]}"
        parent = run.data.tags.get("mlflow.parentRunId")
        training = client.get_run(parent) if parent else run
        files = _artifacts(client, run) or _artifacts(client, training)
        if files is None:
            return _traced(run.info.run_id, title)
        return Side(
            title,
            Predictions.parse(*files, title),
            _artifact_size(client, training.info.run_id),
            *_data_of(training),
            lambda path: _read_artifact(training, path),
            lambda: training.data.params,
        )


def of_registered(name: str) -> Side:
    """Return a registered version of the model by a name that ``VERSION`` or ``ALIAS`` matches.

    Raises:
        UserError: there is no such version, or its predictions cannot be found.
    """
    registry = _open_registry(name)
    match = VERSION.fullmatch(name)
    return of_version(registry.version(int(match[2])) if match else _of_alias(registry, name))


def of_version(version: "Version") -> Side:
    """Return a registered version of the model.

    Raises:
        NotComparableError: it has no predictions.
        UserError: its predictions cannot be read.
    """
    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    return of_run(version.run_id, f"version {version.number}{aliases}")


def _read_artifact(training: "Run", path: Path) -> bytes:
    """Return a file that MLflow keeps for a training, or for the newest run below it that has it."""
    with _Mlflow() as client, TemporaryDirectory() as scratch:
        below = f"tags.mlflow.parentRunId = '{training.info.run_id}'"
        for run in (training, *client.search_runs([training.info.experiment_id], below)):
            names = {one.path for one in client.list_artifacts(run.info.run_id, path.parent.as_posix())}
            if path.as_posix() in names:
                file = client.download_artifacts(run.info.run_id, path.as_posix(), scratch)
                return Path(file).read_bytes()
    raise UserError(f"{path}: MLflow does not have this file")


def _find_run(client: "MlflowClient", name: str) -> "Run":
    """Return the newest run with this id or name."""
    if RUN_ID.fullmatch(name):
        return client.get_run(name)
    found = _runs(client, f"attributes.run_name = {json.dumps(name)}")
    if not found:
        raise UserError(f"run:{name}: MLflow has no such run; `make ui` shows them")
    if len(found) > 1:
        ids = listed([run.info.run_id for run in found], 4)
        raise UserError(f"run:{name}: {len(found)} runs have this name; give the id of one: {ids}")
    return found[0]


def _artifacts(client: "MlflowClient", run: "Run") -> tuple[bytes, bytes] | None:
    """Return predictions.parquet and metrics.json as a run keeps them; None if it has none."""
    folder = PREDICTIONS.parent.as_posix()
    names = {entry.path for entry in client.list_artifacts(run.info.run_id, folder)}
    if not {PREDICTIONS.as_posix(), METRICS.as_posix()} <= names:
        return None
    with TemporaryDirectory() as scratch:
        predictions, metrics = (
            Path(client.download_artifacts(run.info.run_id, path.as_posix(), scratch)).read_bytes()
            for path in (PREDICTIONS, METRICS)
        )
    return predictions, metrics


def _artifact_size(client: "MlflowClient", run_id: str) -> int | None:
    entries = client.list_artifacts(run_id, MODEL.parent.as_posix())
    return next((entry.file_size for entry in entries if entry.path == MODEL.as_posix()), None)


def _data_of(training: "Run") -> tuple[str, Callable[[], bytes | None]]:
    """Return the digest of a run's data as far as MLflow keeps it, and how to read its manifest."""
    datasets = training.inputs.dataset_inputs if training.inputs else []
    digest = next((one.dataset.digest for one in datasets if one.dataset.name == "prepared"), "")

    def read_manifest() -> bytes | None:
        is_here = digest and workspace_digest().startswith(digest)
        return MANIFEST.read_bytes() if is_here and MANIFEST.is_file() else None

    return digest, read_manifest


def _traced(run_id: str, title: str) -> Side:
    """Return the model of a run whose files MLflow lacks, from git and DVC."""
    from darkroom.tracking.ledger.trace import trace

    for trail in trace(run_id).trails:
        if EVALUATE in trail.results:
            return of_results(title, trail.results, Outputs(repository=Revisions().repository))
    raise NotComparableError(
        f"{title}: neither MLflow nor DVC has its predictions.parquet; it was not evaluated, or its "
        "files were deleted"
    )


def run_names() -> tuple[list[str], str]:
    """Return the names of the runs, and why MLflow could not be read."""
    root = project_root()
    address = Address.of(root)
    if address.is_embedded and not (root / "mlflow.db").exists():
        return [], ""
    try:
        with _Mlflow() as client:
            return [run.info.run_name for run in _runs(client, "")], ""
    except UserError as error:
        return [], f"{error}"


def _runs(client: "MlflowClient", filter_string: str) -> "list[Run]":
    experiment = client.get_experiment_by_name(Address.of(project_root()).experiment)
    if experiment is None:
        return []
    return list(client.search_runs([experiment.experiment_id], filter_string, max_results=1_000))


class _Mlflow:
    """Opens MLflow, and turns its errors into those of a user."""

    def __enter__(self) -> "MlflowClient":
        from darkroom.tracking.mlflow.store import open_client

        root = project_root()
        self._address = Address.of(root)
        if self._address.is_embedded and not (root / "mlflow.db").exists():
            raise UserError(f"{self._address}: there is no MLflow yet; `dvc repro` fills it")
        try:
            return open_client(root, self._address)
        except Exception as error:  # of any kind: of a database or an HTTP library
            raise UserError(f"{self._address}: {reason(error)}") from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise UserError(f"{self._address}: {brief(error)}") from None


def _open_registry(name: str) -> "Registry":
    from darkroom.tracking.mlflow.promotion import Registry

    root = project_root()
    registry = Registry.open(root, Address.of(root))
    match = VERSION.fullmatch(name) or ALIAS.fullmatch(name)
    asked, known = match[1] if match else None, registry.versions[0].name
    if asked not in (None, known):
        raise UserError(f"{name}: this project's registered model is called {known}")
    return registry


def _of_alias(registry: "Registry", name: str) -> "Version":
    alias = "candidate" if name.endswith("candidate") else "champion"
    version = registry.candidate if alias == "candidate" else registry.champion
    if version is None:
        raise UserError(f"no version is the {alias}; `darkroom promote` chooses the champion")
    return version
