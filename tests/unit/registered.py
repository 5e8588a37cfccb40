"""Small ONNX models in a real MLflow, for tests of what becomes of them there."""

import hashlib
import time
from itertools import count
from pathlib import Path

import onnx
from mlflow import MlflowClient
from onnx import TensorProto, helper

from darkroom.runtime import load_runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.mlflow.logged_model import find_model, log_onnx
from darkroom.tracking.mlflow.read_back import CONTENT_TAG
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.mlflow.store import Store, open_store
from darkroom.tracking.records import File, Model

DIGEST = "d" * 64
MADE = "made.models/model.safetensors"

_numbers = count()


def write_onnx(path: Path, factor: float) -> None:
    """Writes a model that multiplies by ``factor``."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["images", "factor"], ["logits"])],
        "scaled",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def new_store(root: Path, experiment: str | None = None) -> Store:
    """Opens the database at ``root`` with an experiment of its own."""
    name = experiment or f"experiment {next(_numbers)}"
    return open_store(root, Address(f"sqlite:///{root / 'mlflow.db'}", name, is_embedded=True))


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_record(root: Path, factor: float, f1: float = 0.9) -> tuple[Path, Model]:
    """Writes a model and says what a journal keeps of it; the same factor gives the same bytes."""
    path = root / f"model-{factor}.onnx"
    write_onnx(path, factor)
    content = path.read_bytes()
    file = File(path="model.onnx", sha256=sha256_of(content), size=len(content))
    record = Model(
        name="classifier",
        file=file,
        params={"architecture": "cnn"},
        tags={MADE: f"weights {factor}"},
        metrics={"test/f1_macro": f1, "test/accuracy": f1},
        dataset=("prepared", DIGEST),
        step=2,
        timestamp_ms=time.time_ns() // 1_000_000,
    )
    return path, record


def make_tested_run(store: Store, f1: float = 0.9) -> str:
    """Makes a training's run with scores."""
    run_id = store.client.create_run(store.experiment.experiment_id).info.run_id
    for step in (1, 2, 3):
        store.client.log_metric(run_id, "val/f1_macro", f1 - 0.1 / step, 1_000 * step, step)
    store.client.log_metric(run_id, "test/f1_macro", f1, 5_000, 0)
    store.client.log_metric(run_id, "test/accuracy", f1, 5_000, 0)
    return run_id


def export(store: Store, root: Path, factor: float, f1: float = 0.9, timestamp_ms: int = 0) -> str:
    """Trains, tests and exports a model, as far as MLflow is concerned; returns the run."""
    run_id = make_tested_run(store, f1)
    path, record = make_record(root, factor, f1)
    model = log_onnx(store, run_id, path, record)
    propose(store, model, timestamp_ms or record.timestamp_ms)
    return run_id


def export_through_journal(made: Path, step: int) -> None:
    """Exports model.onnx as the stage does, from weights at ``made`` whose contents are "abc"."""
    with tracked("export", load_runtime()) as run:
        run.log_input(made, "abc", as_child=True).log_onnx(
            Path("model.onnx"),
            "classifier",
            params={"architecture": "cnn"},
            tags={MADE: "abc"},
            metrics={"test/f1_macro": 0.75},
            dataset=("prepared", DIGEST),
            step=step,
        )


def contents_of_record(record: Model) -> dict[str, str]:
    return {CONTENT_TAG: record.file.sha256}


def model_of(store: Store, run_id: str, factor: float, root: Path):
    _, record = make_record(root, factor)
    return find_model(store, run_id, contents_of_record(record))


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: f"{number}" for alias, number in client.get_registered_model(name).aliases.items()}
