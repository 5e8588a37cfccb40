"""Makes an exported ONNX file a logged model of a run, with its facts and scores."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow.onnx
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from darkroom.prediction.pyfunc.contents import make_pyfunc, requirements
from darkroom.prediction.pyfunc.description import digest_of, portable_description, values_of
from darkroom.prediction.pyfunc.signature import example_of, signature_of
from darkroom.tracking import records
from darkroom.tracking.journal.trouble import OutOfReach, Refused, reason
from darkroom.tracking.mlflow.read_back import (
    CONTENT_TAG,
    DESCRIPTION_TAG,
    FILES_TAG,
    Unsound,
    digests_of,
    read_back,
    recorded_files,
)
from darkroom.tracking.mlflow.store import Store

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


OF_EPOCH = "val/"
"""Prefix of the metrics that a training has at every epoch."""

LENGTH_OF_DIGEST = 36
"""Length to which MLflow cuts the digest of a dataset."""


def find_model(store: Store, run_id: str, contents: Mapping[str, str]) -> LoggedModel | None:
    """Return the run's logged model of these contents.

    Args:
        contents: as ``contents_of`` returns them.
    """
    found = store.client.search_logged_models(
        [store.experiment.experiment_id], f"tags.{CONTENT_TAG} = '{contents[CONTENT_TAG]}'"
    )
    same = (model for model in found if contents_of(model.tags) == contents)
    return next((model for model in same if model.source_run_id == run_id), None)


def contents_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that say what a model contains: digests of its ONNX file and its model.json."""
    return {name: tags[name] for name in (CONTENT_TAG, DESCRIPTION_TAG) if name in tags}


def log_onnx(
    store: Store, run_id: str, path: Path, record: records.Model, described: Path | None = None
) -> LoggedModel:
    """Log the ONNX file at ``path``, unless the run already has a model with these contents.

    If MLflow has the model, but its files are missing or damaged, they are sent again. Unlike
    ``mlflow.onnx.log_model``, this can be cut off between any two calls and repeated.

    Args:
        described: model.json of the same export. Without it, or if it is of an earlier version of
            darkroom, MLflow cannot serve the model.

    Returns:
        The logged model as MLflow has it.

    Raises:
        Refused: the file is not an ONNX file, or the packages here cannot save it.
        OutOfReach: the model did not arrive intact.
    """
    client = store.client
    description = portable_description(described.parent, record.file.sha256) if described else None
    contents = {CONTENT_TAG: record.file.sha256}
    if description:
        contents[DESCRIPTION_TAG] = digest_of(description)
    logged = find_model(store, run_id, contents)
    if logged is None:
        _load(path)
        logged = client.create_logged_model(
            store.experiment.experiment_id,
            record.name,
            run_id,
            tags={**record.tags, **contents},
            params=dict(sorted(record.params.items())),
        )
    missing = {name: text for name, text in record.tags.items() if logged.tags.get(name) != text}
    if missing:
        _set_tags(client, logged, missing)
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    if not any(output.model_id == logged.model_id for output in outputs):
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, record.step)])
    _log_scores(client, run, record, logged)
    if logged.status != LoggedModelStatus.READY or not _is_sound(store, logged):
        with TemporaryDirectory() as scratch:
            folder = f"{scratch}/model"
            try:
                _save(path, logged, folder, description)
            except (OSError, Refused):  # a disk may be full
                raise
            except Exception as error:  # of any kind: trying again does not help
                raise Refused(f"{path.name} cannot be saved for MLflow ({reason(error)})") from error
            sent = digests_of(Path(folder))
            _set_tags(client, logged, {FILES_TAG: json.dumps(sent, sort_keys=True)})
            client.log_model_artifacts(logged.model_id, folder)
            try:
                read_back(store.uri, logged, sent)
            except Unsound as error:
                raise OutOfReach(f"{error}") from None
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return client.get_logged_model(logged.model_id)


def _set_tags(client: MlflowClient, logged: LoggedModel, tags: dict[str, str]) -> None:
    """Tag a model. MLflow looks it up first, and reports any failure of that as an invalid parameter."""
    try:
        client.set_logged_model_tags(logged.model_id, tags)
    except MlflowException as error:
        raise error.__context__ or error from None


def _is_sound(store: Store, logged: LoggedModel) -> bool:
    """Return whether MLflow holds the files that were logged."""
    try:
        read_back(store.uri, logged, recorded_files(logged.tags))
    except Unsound:
        return False
    return True


def _load(path: Path) -> "ModelProto":
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf has errors of its own
        raise Refused(f"{path.name} is not an ONNX file ({error})") from error


def _save(path: Path, logged: LoggedModel, folder: str, description: bytes | None) -> None:
    """Write the files of an MLflow model; MLflow can serve it if it has a description."""
    model = _load(path)
    values = values_of(description) if description else None
    mlflow.onnx.save_model(
        model,
        folder,
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        signature=signature_of(values) if values else _signature_of_tensors(model),
        input_example=example_of(values) if values else None,
        pip_requirements=requirements() if values else ["onnxruntime"],
        save_as_external_data=False,
    )
    shutil.copyfile(
        path, Path(folder, "model.onnx")
    )  # the same bytes; onnx may write the same model differently
    if description:
        make_pyfunc(Path(folder), description)


def _log_scores(client: MlflowClient, run: Run, record: records.Model, logged: LoggedModel) -> None:
    """Link the model to its scores, and to the run's metrics at the epoch of its weights.

    Points that the run already has are sent again with the same time, which adds nothing to the run.
    """
    run_id = run.info.run_id
    latest = {point.key: Metric.from_proto(point) for point in run.data.to_proto().metrics}
    linked = {point.key for point in logged.metrics or [] if point.step == record.step}
    points = []
    for key in sorted(latest.keys() - record.metrics.keys() - linked):
        if key.startswith(OF_EPOCH):
            history = client.get_metric_history(run_id, key)
            points += [_of_model(point, logged) for point in history if point.step == record.step]
    linked_points = {(point.key, point.timestamp, point.step) for point in logged.metrics or []}
    for key, value in sorted(record.metrics.items()):
        point = latest.get(key)
        if point is None or point.value != value:
            point = Metric(key, value, record.timestamp_ms, 0)
        if (key, point.timestamp, point.step) not in linked_points:
            points.append(_of_model(point, logged, record.dataset))
    if points:
        client.log_batch(run_id, metrics=points)


def _of_model(point: Metric, logged: LoggedModel, dataset: tuple[str, str] | None = None) -> Metric:
    name, digest = dataset or (None, None)
    return Metric(
        point.key,
        point.value,
        point.timestamp,
        point.step,
        model_id=logged.model_id,
        dataset_name=name,
        dataset_digest=digest and digest[:LENGTH_OF_DIGEST],
        run_id=logged.source_run_id,
    )


def _signature_of_tensors(model: "ModelProto") -> ModelSignature:
    return ModelSignature(
        inputs=Schema([_tensor_spec(value) for value in model.graph.input]),
        outputs=Schema([_tensor_spec(value) for value in model.graph.output]),
    )


def _tensor_spec(value: "ValueInfoProto") -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(size.dim_value or -1 for size in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)
