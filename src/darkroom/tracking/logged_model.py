"""Makes an ONNX file a logged model of a run, with its facts and its scores."""

from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from darkroom.tracking import records
from darkroom.tracking.trouble import Refused

if TYPE_CHECKING:
    from onnx import ValueInfoProto

    from darkroom.tracking.store import Store

CONTENT_TAG = "sha256"

LENGTH_OF_DIGEST = 36
"""MLflow keeps no more of a data set's."""


def find_model(store: "Store", run_id: str, sha256: str) -> LoggedModel | None:
    """Returns the run's logged model of these contents."""
    found = store.client.search_logged_models(
        [store.experiment.experiment_id], f"tags.{CONTENT_TAG} = '{sha256}'"
    )
    return next((model for model in found if model.source_run_id == run_id), None)


def log_onnx(store: "Store", run_id: str, path: Path, record: records.Model) -> None:
    """Logs the ONNX file at ``path``, if the run has not got a model of these contents.

    Raises:
        Refused: it is no ONNX file.
    """
    logged = find_model(store, run_id, record.file.sha256)
    if logged is None or logged.status != LoggedModelStatus.READY:
        logged = _log_file(store, run_id, path, record, logged)
    missing = {name: text for name, text in record.tags.items() if logged.tags.get(name) != text}
    if missing:
        store.client.set_logged_model_tags(logged.model_id, missing)
    _log_scores(store, run_id, record, logged)


def _log_file(
    store: "Store", run_id: str, path: Path, record: records.Model, begun: LoggedModel | None
) -> LoggedModel:
    """Logs the file itself; ``begun`` is what was made before a sender was killed."""
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf has errors of its own
        raise Refused(f"{path.name} is no ONNX file ({error})") from error
    signature = ModelSignature(
        inputs=Schema([_tensor_spec(value) for value in model.graph.input]),
        outputs=Schema([_tensor_spec(value) for value in model.graph.output]),
    )
    # made first: Model.log alone would put it into MLflow's default experiment
    logged = begun or store.client.create_logged_model(
        store.experiment.experiment_id,
        record.name,
        run_id,
        tags={**record.tags, CONTENT_TAG: record.file.sha256},
        params=dict(sorted(record.params.items())),
    )
    mlflow.set_tracking_uri(store.uri)
    Model.log(
        None,
        mlflow.onnx,
        model_id=logged.model_id,
        run_id=run_id,
        onnx_model=model,
        signature=signature,
        pip_requirements=["onnxruntime"],
        save_as_external_data=False,
        step=record.step,  # MLflow links to the model what the run has said at this step
    )
    return store.client.get_logged_model(logged.model_id)


def _log_scores(store: "Store", run_id: str, record: records.Model, logged: LoggedModel) -> None:
    """Links the run's scores to the model.

    What the run has already is said again with the same time, which adds nothing to the run.
    """
    known = {
        point.key: Metric.from_proto(point)
        for point in store.client.get_run(run_id).data.to_proto().metrics
    }
    linked = {(point.key, point.timestamp, point.step) for point in logged.metrics or []}
    name, digest = record.dataset or (None, None)
    points = []
    for key, value in record.metrics.items():
        run_has = key in known and known[key].value == value
        time_ms, step = (known[key].timestamp, known[key].step) if run_has else (record.timestamp_ms, 0)
        if (key, time_ms, step) not in linked:
            points.append(
                Metric(
                    key,
                    value,
                    time_ms,
                    step,
                    model_id=logged.model_id,
                    dataset_name=name,
                    dataset_digest=digest and digest[:LENGTH_OF_DIGEST],
                    run_id=run_id,
                )
            )
    if points:
        store.client.log_batch(run_id, metrics=points)


def _tensor_spec(value: "ValueInfoProto") -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(size.dim_value or -1 for size in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)
