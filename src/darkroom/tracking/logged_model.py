"""Makes an ONNX file a logged model of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from darkroom.tracking.trouble import Refused

if TYPE_CHECKING:
    from onnx import ValueInfoProto

    from darkroom.tracking.store import Store

CONTENT_TAG = "sha256"


def log_onnx(store: "Store", run_id: str, path: Path, name: str, sha256: str) -> str:
    """Logs the ONNX file at ``path``, if the run has not got a model of these contents.

    Returns:
        The id of the logged model.

    Raises:
        Refused: it is no ONNX file.
    """
    import onnx

    experiment_id = store.experiment.experiment_id
    found = [
        model
        for model in store.client.search_logged_models(
            [experiment_id], f"tags.{CONTENT_TAG} = '{sha256}'"
        )
        if model.source_run_id == run_id
    ]
    if found and found[0].status == LoggedModelStatus.READY:
        return found[0].model_id
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf has errors of its own
        raise Refused(f"{path.name} is no ONNX file ({error})") from error
    signature = ModelSignature(
        inputs=Schema([_tensor_spec(value) for value in model.graph.input]),
        outputs=Schema([_tensor_spec(value) for value in model.graph.output]),
    )
    mlflow.set_tracking_uri(store.uri)
    # made first: Model.log alone would put it into MLflow's default experiment
    logged = (
        found[0]
        if found
        else store.client.create_logged_model(experiment_id, name, run_id, tags={CONTENT_TAG: sha256})
    )
    Model.log(
        None,
        mlflow.onnx,
        model_id=logged.model_id,
        run_id=run_id,
        onnx_model=model,
        signature=signature,
        pip_requirements=["onnxruntime"],
        save_as_external_data=False,
    )
    return logged.model_id


def _tensor_spec(value: "ValueInfoProto") -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(size.dim_value or -1 for size in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)
