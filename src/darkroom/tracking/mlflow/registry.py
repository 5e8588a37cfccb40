"""The model registry: each exported model is a version, and the latest has the alias ``candidate``.

``propose`` can be cut off between any two calls and repeated: it first looks for what exists.
"""

import json
import re
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from darkroom.tracking.mlflow.logged_model import contents_of
from darkroom.tracking.mlflow.read_back import CONTENT_TAG
from darkroom.tracking.mlflow.store import Store, as_default

CANDIDATE, CHAMPION = "candidate", "champion"

PROPOSED_TAG = "candidate.at"
"""Tag with the time of a version's last export; an older one does not replace it as the candidate."""

_ABOUT = (
    "What the experiment {} has exported. `candidate` is the latest version, `champion` the one that "
    "is in use: `darkroom promote` makes it so."
)


def model_name(experiment: str) -> str:
    """Return the registered model's name: the experiment's name, as far as MLflow allows."""
    return re.sub(r"[/:'\"]+", "_", experiment).strip("_. ") or "model"


def propose(store: Store, model: LoggedModel, timestamp_ms: int) -> None:
    """Register a logged model if necessary, and make it the candidate.

    Args:
        model: as ``log_onnx`` returned it.
    """
    client, name = store.client, model_name(store.experiment.name)
    _see_to_registered_model(client, name, store.experiment.name)
    version = _find_version(client, name, model)
    if version is None:
        with as_default(store.uri):
            version = client.create_model_version(
                name,
                f"models:/{model.model_id}",
                model.source_run_id,
                tags=_identity(model),
                description=_description(model),
                model_id=model.model_id,
                await_creation_for=0,
            )
    _link_back(client, version, model)
    _make_candidate(client, version, _time_text(timestamp_ms))


def find_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version with the alias."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # SQL stores call a missing alias an invalid parameter
        if is_absent(error) or error.error_code == "INVALID_PARAMETER_VALUE":
            return None
        raise


def is_absent(error: MlflowException) -> bool:
    """Return whether the error says that something does not exist."""
    return error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


def find_source(client: MlflowClient, source: str) -> LoggedModel | None:
    """Return the logged model of a version, if it still exists."""
    found = re.fullmatch(r"models:/(m-\w+)", source)
    try:
        return client.get_logged_model(found[1]) if found else None
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def _see_to_registered_model(client: MlflowClient, name: str, experiment: str) -> None:
    try:
        client.create_registered_model(name, description=_ABOUT.format(experiment))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _identity(model: LoggedModel) -> dict[str, str]:
    """Return the tags that identify a model's bytes, and the model that it was exported from."""
    return {
        name: text
        for name, text in sorted(model.tags.items())
        if name in contents_of(model.tags) or name.startswith("made.")
    }


def _find_version(client: MlflowClient, name: str, model: LoggedModel) -> ModelVersion | None:
    """Return the latest version of the same bytes whose files still exist."""
    identity = _identity(model)
    conditions = [f"name = '{name}'", f"tags.`{CONTENT_TAG}` = '{identity[CONTENT_TAG]}'"]
    found = client.search_model_versions(" and ".join(conditions))
    same = [version for version in found if identity.items() <= version.tags.items()]
    for version in sorted(same, key=lambda version: int(version.version), reverse=True):
        if find_source(client, version.source or ""):
            return version
    return None


def _description(model: LoggedModel) -> str:
    scores = {point.key: point.value for point in model.metrics or []}
    architecture = (model.params or {}).get("architecture", model.name)
    if "test/f1_macro" in scores:
        return f"{architecture}, test macro F1 {scores['test/f1_macro']:.4f}"
    return f"{architecture}"


def _link_back(client: MlflowClient, version: ModelVersion, model: LoggedModel) -> None:
    """Link a version from the page of its logged model, which only servers do by themselves."""
    if version.source != f"models:/{model.model_id}":
        return
    entry = {"name": version.name, "version": f"{version.version}"}
    named = json.loads(client.get_logged_model(model.model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if entry not in [{**other, "version": f"{other['version']}"} for other in named]:
        tag = json.dumps([*named, entry])
        client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: tag})


def _make_candidate(client: MlflowClient, version: ModelVersion, proposed: str) -> None:
    name = version.name
    if version.tags.get(PROPOSED_TAG, "") < proposed:
        client.set_model_version_tag(name, version.version, PROPOSED_TAG, proposed)
    current = find_alias(client, name, CANDIDATE)
    if current and current.version == version.version:
        return
    if current is None or current.tags.get(PROPOSED_TAG, "") <= proposed:
        client.set_registered_model_alias(name, CANDIDATE, version.version)


def _time_text(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1_000, UTC).isoformat(timespec="milliseconds")
