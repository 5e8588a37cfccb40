"""Models from the project's folder, and from git revisions and experiments by DVC's cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.comparison.predictions import Predictions
from darkroom.comparison.side import Side
from darkroom.errors import UserError
from darkroom.paths import DATASET, MANIFEST, METRICS, MODEL, PREDICTIONS, REPORT_TRAIN
from darkroom.tracking.ledger.data_digests import PREPARE, prepared_digest
from darkroom.tracking.ledger.dvc_hash import bytes_md5
from darkroom.tracking.ledger.outputs import OutputDamaged, OutputMissing, Outputs
from darkroom.tracking.ledger.results import WORKSPACE, Result
from darkroom.tracking.ledger.revisions import Revisions

EVALUATE = "evaluate"


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
        data_digest=workspace_digest(),
        read_manifest=lambda: MANIFEST.read_bytes() if MANIFEST.is_file() else None,
        read_file=_read_workspace,
        read_params=_workspace_params,
    )


def of_revision(name: str, kind: str = "") -> Side:
    """Return the model of a git revision or of a DVC experiment.

    Args:
        kind: ``rev`` or ``exp`` if only one of them is meant.

    Raises:
        UserError: there is none, it has no result of evaluate, or its predictions cannot be found.
    """
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
    return of_results(title, results, Outputs(repository=revisions.repository))


def of_results(title: str, results: dict[str, Result], outputs: Outputs) -> Side:
    """Return the model of a revision's results.

    Raises:
        UserError: its predictions cannot be found.
    """
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
        lambda: _params_of(results, model.md5 if model else ""),
    )


def _read_workspace(path: Path) -> bytes:
    """Return a file of the results that dvc.lock records for the model in the folder."""
    if not MODEL.is_file():
        raise UserError(f"{MODEL}: the file does not exist; run `dvc repro`")
    revisions = Revisions()
    results = revisions.results(revisions.find(WORKSPACE))
    return _read_result(path, results, Outputs(), bytes_md5(MODEL.read_bytes()))


def _workspace_params() -> Mapping[str, Any]:
    """Return the parameters that dvc.lock records for the model in the folder."""
    if not MODEL.is_file():
        return {}
    revisions = Revisions()
    return _params_of(revisions.results(revisions.find(WORKSPACE)), bytes_md5(MODEL.read_bytes()))


def _params_of(results: dict[str, Result], model_md5: str) -> Mapping[str, Any]:
    """Return the parameters of the training of the model with this MD5; empty if it is another one."""
    result = results.get("train")
    model = result.outs.get(MODEL.as_posix()) if result else None
    return result.params if result and model and model.md5 == model_md5 else {}


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


def workspace_digest() -> str:
    """Return the digest of the prepared data in the folder; empty if it cannot be read."""
    try:
        digest = load_json(DATASET)["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return digest if isinstance(digest, str) else ""
