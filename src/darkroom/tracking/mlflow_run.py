"""Sends a run's events to MLflow; when MLflow fails, warns and lets the stage go on."""

import getpass
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.events import Artifacts, Dataset, Event, Metrics, OnnxModel, Params, Tags
from darkroom.tracking.git import git_tags
from darkroom.tracking.run import Run, made_tag, warn

if TYPE_CHECKING:
    from mlflow.types import TensorSpec
    from onnx import ValueInfoProto

    from darkroom.tracking.store import Store

FLUSH_SECONDS = 5.0
"""How often metrics are sent while a stage runs."""

POINTS_PER_BATCH = 1_000
"""MLflow's own limit for one call."""

# What MLflow does unasked; set before it is imported.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 would hold a stage for 4 minutes
    "GIT_PYTHON_REFRESH": "quiet",
}


@contextmanager
def mlflow_run(stage: str) -> Iterator[Run]:
    """Makes a run for a stage; its status tells afterwards how the block ended.

    FINISHED, FAILED after an exception, KILLED after Ctrl-C or an exit.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from darkroom.tracking.store import open_store

        store = open_store()
        sender = _start(store, stage)
    except Exception as error:  # whatever it is, an observer must not stop the work
        warn("this run is not logged", error)
        yield Run()
        return
    try:
        yield Run(sender.record, find_maker=partial(_find_maker, sender))
    except Exception:
        sender.close("FAILED")
        raise
    except BaseException:
        sender.close("KILLED")
        raise
    sender.close("FINISHED")


def _start(store: "Store", stage: str) -> "_Sender":
    git = git_tags()
    version = git.get("dvc.experiment") or git.get("mlflow.source.git.commit", "")[:7]
    script = Path("stages", f"{stage.partition('@')[0]}.py")
    tags = {
        "stage": stage,
        "mlflow.source.name": f"{script}" if script.exists() else f"darkroom {stage}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        **git,
    }
    run = store.client.create_run(
        store.experiment.experiment_id, tags=tags, run_name=f"{stage} {version}".strip()
    )
    return _Sender(store, run.info.run_id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"


def _find_maker(sender: "_Sender", artifact: Path, digest: str, as_child: bool) -> Run:
    found: list[str] = []

    def look() -> None:
        runs = sender.store.client.search_runs(
            [sender.store.experiment.experiment_id],
            filter_string=f"tags.`{made_tag(artifact)}` = '{digest}'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        found.extend(run.info.run_id for run in runs)

    sender.attempt("the run that made its input was not looked for", look)
    if not found:
        return Run()
    maker = _Sender(sender.store, found[0])
    link = "mlflow.parentRunId" if as_child else f"maker.{artifact.as_posix()}"
    sender.record(Tags({link: maker.run_id}))
    return Run(maker.record_now)


class _Sender:
    """Writes the events of one run. Metrics wait and go in batches, the others go at once."""

    def __init__(self, store: "Store", run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._points: list[Metrics] = []
        self._lock = threading.Lock()
        self._flushed = time.monotonic()
        self._flusher: threading.Thread | None = None

    def record(self, event: Event) -> None:
        if not isinstance(event, Metrics):
            self.attempt(f"{type(event).__name__.lower()} not logged", lambda: self._send(event))
            return
        with self._lock:
            self._points.append(event)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flushed = time.monotonic()
            if self._flusher is None or not self._flusher.is_alive():
                self._flusher = threading.Thread(target=self.flush, name="mlflow", daemon=True)
                self._flusher.start()

    def record_now(self, event: Event) -> None:
        """Records, and leaves nothing waiting."""
        self.record(event)
        self.flush()

    def flush(self) -> None:
        """Sends the metrics that wait."""
        with self._lock:
            waiting, self._points = self._points, []
        if waiting:
            self.attempt(f"{len(waiting)} metrics not logged", lambda: self._send_metrics(waiting))

    def close(self, status: str) -> None:
        if self._flusher is not None:
            self._flusher.join()
        self.flush()
        self.attempt(
            f"the run's end ({status}) not logged",
            lambda: self.store.client.set_terminated(self.run_id, status),
        )

    def attempt(self, failure: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, an observer must not stop the work
            warn(failure, error)

    def _send(self, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        client = self.store.client
        match event:
            case Params():
                client.log_batch(self.run_id, params=[Param(k, v) for k, v in event.texts().items()])
            case Tags(values):
                client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in values.items()])
            case Artifacts(paths):
                for path in paths:
                    folder = path if path.is_dir() else path.parent
                    # MLflow wants None for the top folder
                    artifact_path = folder.as_posix() if folder.parts else None
                    log = client.log_artifacts if path.is_dir() else client.log_artifact
                    log(self.run_id, str(path), artifact_path)
            case Dataset():
                self._send_dataset(event)
            case OnnxModel():
                self._send_onnx(event)

    def _send_metrics(self, waiting: list[Metrics]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, metrics.timestamp_ms, metrics.step)
            for metrics in waiting
            for name, value in metrics.values.items()
        ]
        for start in range(0, len(points), POINTS_PER_BATCH):
            batch = points[start : start + POINTS_PER_BATCH]
            self.store.client.log_batch(self.run_id, metrics=batch)

    def _send_dataset(self, event: Dataset) -> None:
        from mlflow.entities import Dataset as DatasetEntity
        from mlflow.entities import DatasetInput, InputTag

        dataset = DatasetEntity(
            name=event.name,
            digest=event.digest[:36],  # MLflow keeps no more
            source_type="local",
            source=json.dumps({"uri": event.source.as_posix()}),
            profile=json.dumps({**event.profile, "digest": event.digest}),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.store.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def _send_onnx(self, event: OnnxModel) -> None:
        import mlflow
        import onnx
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema

        model = onnx.load(event.path)
        signature = ModelSignature(
            inputs=Schema([_tensor_spec(value) for value in model.graph.input]),
            outputs=Schema([_tensor_spec(value) for value in model.graph.output]),
        )
        mlflow.set_tracking_uri(self.store.uri)
        # made first: Model.log alone would put it into MLflow's default experiment
        logged = self.store.client.create_logged_model(
            self.store.experiment.experiment_id, event.name, self.run_id
        )
        Model.log(
            None,
            mlflow.onnx,
            model_id=logged.model_id,
            run_id=self.run_id,
            onnx_model=model,
            signature=signature,
            pip_requirements=["onnxruntime"],
            save_as_external_data=False,
        )


def _tensor_spec(value: "ValueInfoProto") -> "TensorSpec":
    import onnx
    from mlflow.types import TensorSpec

    tensor = value.type.tensor_type
    shape = tuple(size.dim_value or -1 for size in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)
