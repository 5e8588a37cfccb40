"""The models that can be compared, found by name: workspace, revision, experiment, run or version."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from darkroom.comparison.predictions import Predictions
from darkroom.errors import UserError, brief, closest, listed
from darkroom.paths import DATASET, MANIFEST, METRICS, MODEL, PREDICTIONS, REPORT_TRAIN
from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import reason
from darkroom.tracking.ledger.data_digests import PREPARE, prepared_digest
from darkroom.tracking.ledger.dvc_hash import bytes_md5
from darkroom.tracking.ledger.outputs import OutputDamaged, OutputMissing, Outputs
from darkroom.tracking.ledger.results import WORKSPACE, Result
from darkroom.tracking.ledger.revisions import Revisions
from darkroom.tracking.root import project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from darkroom.tracking.mlflow.promotion import Registry, Version

EVALUATE = "evaluate"
RUN_ID = re.compile(r"[0-9a-f]{32}")
VERSION = re.compile(r"(?:version:|models:/([^/@]+)/)(\d+)")
ALIAS = re.compile(r"(?:models:/([^/@]+)@)?(champion|candidate)")

KINDS = (
    "`workspace` (or .), a git revision (rev:NAME), a DVC experiment (exp:NAME), an MLflow run (its id, "
    "or run:NAME), a model version (version:3 or models:/NAME/3), `champion` or `candidate`"
)


class NotComparableError(UserError):
    """Two models cannot be compared, and no repair would change this."""


ReadFile = Callable[[Path], bytes]


def _no_file(path: Path) -> bytes:
    raise UserError(f"{path}: not available")


@dataclass(frozen=True)
class Side:
    """One of the models that are compared."""

    name: str
    """As it is shown, for example ``experiment wide`` or ``version 3``."""
    predictions: Predictions
    model_bytes: int | None = None
    """Size of the model file; None if it is not recorded."""
    data_digest: str = ""
    """Digest of the prepared data, or its beginning; empty if it is not known."""
    read_manifest: Callable[[], bytes | None] = lambda: None
    """Returns the manifest.parquet of the prepared data; None if it cannot be found."""
    read_file: ReadFile = _no_file
    """Returns a file of ``reports/train`` or ``export``; raises UserError if it is not available."""


def find_side(name: str) -> Side:
    """Return the model that ``name`` stands for, with its predictions.

    Raises:
        UserError: nothing or more than one thing has this name, or its predictions cannot be found.
    """
    if name in (WORKSPACE, "."):
        return workspace()
    if (match := VERSION.fullmatch(name)) or ALIAS.fullmatch(name):
        registry = _open_registry(name)
        version = registry.version(int(match[2])) if match else _of_alias(registry, name)
        return of_version(version)
    kind, _, rest = name.partition(":")
    if kind == "run":
        return _of_run(rest)
    if kind in ("rev", "exp"):
        return _of_revision(rest, kind)
    if RUN_ID.fullmatch(name):
        return _of_run(name)
    return _of_bare_name(name)


def workspace() -> Side:
    """Return the model in the project's folder, as its files are now.

    Raises:
        UserError: it was not evaluated.
    """
    for path in (PREDICTIONS, METRICS):
        if not path.is_file():
            raise UserError(f"{path}: the file does not exist; run `dvc repro evaluate`")
    return Side(
        name=WORKSPACE,
        predictions=Predictions.parse(PREDICTIONS.read_bytes(), METRICS.read_bytes(), WORKSPACE),
        model_bytes=MODEL.stat().st_size if MODEL.is_file() else None,
        data_digest=_workspace_digest(),
        read_manifest=lambda: MANIFEST.read_bytes() if MANIFEST.is_file() else None,
        read_file=_read_workspace,
    )


def of_version(version: "Version") -> Side:
    """Return a registered version of the model.

    Raises:
        NotComparableError: it has no predictions.
        UserError: its predictions cannot be read.
    """
    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    return _of_run(version.run_id, f"version {version.number}{aliases}")


def _of_bare_name(name: str) -> Side:
    """Return the revision or experiment, or else the run, of this name."""
    revisions = Revisions()
    experiments = [one.name for one in revisions.experiments()]
    is_revision = revisions.repository is not None and revisions.repository.commit(name) is not None
    if is_revision and name in experiments:
        raise UserError(
            f"{name}: both a git revision and a DVC experiment; write rev:{name} or exp:{name}"
        )
    if is_revision or name in experiments:
        return _of_revision(name)
    runs, trouble = _run_names()
    if name in runs:
        return _of_run(name)
    names = [*experiments, *_branches(revisions), *runs, WORKSPACE, "champion", "candidate"]
    near = closest(name, names)
    raise UserError(
        f"{name}: not known; allowed are {KINDS}"
        + (f"; did you mean {listed([near])}?" if near else "")
        + (f" (MLflow could not be read: {trouble})" if trouble else "")
    )


def _branches(revisions: Revisions) -> list[str]:
    if revisions.repository is None:
        return []
    return revisions.repository.lines(
        "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags"
    )


def _of_revision(name: str, kind: str = "") -> Side:
    revisions = Revisions()
    if kind == "exp":
        same = [one for one in revisions.experiments() if one.name == name]
        if len(same) == 1:  # a branch may have the same name
            name = same[0].commit
    elif kind == "rev" and not (revisions.repository and revisions.repository.commit(name)):
        raise UserError(f"rev:{name}: not a git revision; exp:{name} would be an experiment")
    revision = revisions.find(name)
    if kind == "exp" and not revision.baseline:
        raise UserError(f"exp:{name}: not a DVC experiment; `dvc exp show` lists them")
    results = revisions.results(revision)
    if EVALUATE not in results:
        raise UserError(f"{name}: the dvc.lock of this revision has no result of evaluate")
    title = f"experiment {revision.name}" if revision.baseline else f"commit {revision.name}"
    if not revision.baseline and not revision.commit.startswith(name):
        title += f" ({name})"
    return _of_results(title, results, Outputs(repository=revisions.repository))


def _of_results(title: str, results: dict[str, Result], outputs: Outputs) -> Side:
    result = results[EVALUATE]
    try:
        predictions, metrics = (outputs.read(result, path) for path in (PREDICTIONS, METRICS))
    except OutputMissing as error:
        raise UserError(
            f"{title}: {error}. `dvc fetch --all-commits` (for experiments `dvc exp pull`) gets it if "
            "it was pushed; otherwise check it out and run `dvc repro evaluate`"
        ) from None
    model = result.deps.get(MODEL.as_posix())

    def read_manifest() -> bytes | None:
        try:
            return outputs.read(results[PREPARE], MANIFEST)
        except (KeyError, OutputMissing, OutputDamaged):
            return None

    try:
        digest = prepared_digest(results, outputs) or ""
    except (OutputMissing, OutputDamaged):
        digest = ""
    parsed = Predictions.parse(predictions, metrics, title)
    return Side(
        title,
        parsed,
        model.size if model else None,
        digest,
        read_manifest,
        lambda path: _read_result(path, results, outputs, model.md5 if model else ""),
    )


def _read_workspace(path: Path) -> bytes:
    """Return a file of the results that dvc.lock records for the model in the folder."""
    if not MODEL.is_file():
        raise UserError(f"{MODEL}: the file does not exist; run `dvc repro`")
    revisions = Revisions()
    results = revisions.results(revisions.find(WORKSPACE))
    return _read_result(path, results, Outputs(), bytes_md5(MODEL.read_bytes()))


def _read_result(path: Path, results: dict[str, Result], outputs: Outputs, model_md5: str) -> bytes:
    """Return a file that ``train`` or ``export`` wrote for the model with this MD5.

    Raises:
        UserError: there is no such file, or it belongs to another model.
    """
    stage = "train" if path.is_relative_to(REPORT_TRAIN) else "export"
    result = results.get(stage)
    if result is None:
        raise UserError(f"{path}: dvc.lock has no result of {stage}; run `dvc repro {stage}`")
    model = {**result.deps, **result.outs}.get(MODEL.as_posix())
    if model is None or model.md5 != model_md5:
        raise UserError(f"{path}: belongs to another model; run `dvc repro {stage}`")
    return outputs.read(result, path)


def _of_run(name: str, title: str = "") -> Side:
    """Return the model of a training's run, or of a run of evaluate or export below it."""
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
        )


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
        is_here = digest and _workspace_digest().startswith(digest)
        return MANIFEST.read_bytes() if is_here and MANIFEST.is_file() else None

    return digest, read_manifest


def _traced(run_id: str, title: str) -> Side:
    """Return the model of a run whose files MLflow lacks, from git and DVC."""
    from darkroom.tracking.ledger.trace import trace

    for trail in trace(run_id).trails:
        if EVALUATE in trail.results:
            return _of_results(title, trail.results, Outputs(repository=Revisions().repository))
    raise NotComparableError(
        f"{title}: neither MLflow nor DVC has its predictions.parquet; it was not evaluated, or its "
        "files were deleted"
    )


def _run_names() -> tuple[list[str], str]:
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


def _workspace_digest() -> str:
    try:
        digest = json.loads(DATASET.read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return digest if isinstance(digest, str) else ""
