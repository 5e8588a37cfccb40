"""Runs that were written into journals, and what MLflow must hold of them: exactly that."""

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow import MlflowClient
from mlflow.entities import Run
from onnx import TensorProto, helper

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import JOURNALS, Journal
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.mlflow.delivery import JOURNAL_TAG
from darkroom.tracking.mlflow.store import QUIET
from darkroom.tracking.records import (
    Dataset,
    End,
    Input,
    Metrics,
    Model,
    Params,
    Start,
    Status,
    Tags,
)

os.environ.update(QUIET)

START_MS = 1_700_000_000_000


@dataclass
class Story:
    """What a journal says."""

    journal: Journal
    status: Status = "FINISHED"
    params: dict[str, str] = field(default_factory=dict)
    points: set[tuple[str, float, int, int]] = field(default_factory=set)
    """Name, value, timestamp and step."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path."""
    model: bytes = b""

    def copy(self) -> "Story":
        """The same as another run: it is the folder's name that tells runs apart."""
        name = f"{self.journal.name[:-8]}{secrets.token_hex(4)}"
        folder = self.journal.folder.with_name(name)
        shutil.copytree(self.journal.folder, folder)
        return Story(Journal(folder), self.status, self.params, self.points, self.files, self.model)


def write_story(
    root: Path,
    address: Address,
    *,
    stage: str = "train",
    num_points: int = 30,
    num_files: int = 2,
    has_model: bool = False,
    status: Status = "FINISHED",
) -> Story:
    """Writes a journal in the project at ``root``, meant for ``address``."""
    start = Start(
        stage=stage,
        name=stage,
        tags={"stage": stage},
        destination=address.digest,
        address=f"{address}",
        timestamp_ms=START_MS,
    )
    writer = create_journal(root, start)
    story = Story(writer.journal, status)
    story.params = {"seed": "0", "train.lr": "0.1"}
    writer.append(Params(values=story.params))
    writer.append(Dataset(name="prepared", digest="d" * 64, source="data", profile={"classes": 2}))
    writer.append(Input(artifact="data", digest="unknown", as_child=False))
    for step in range(num_points):
        values = {"train/loss": 1 / (step + 1), "val/accuracy": float(step)}
        now_ms = START_MS + step
        writer.append(Metrics(values=values, step=step, timestamp_ms=now_ms))
        story.points |= {(name, value, now_ms, step) for name, value in values.items()}
        if step < num_files:
            path = root / "reports" / f"{step}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{stage} {step} {secrets.token_hex(200)}")
            file = writer.keep(Path(f"reports/{step}.txt"), path)
            writer.append(file)
            story.files[file.path] = file.sha256
    writer.append(Tags(values={"made.models": "abc"}))
    if has_model:
        path = root / "model.onnx"
        onnx.save(tiny_model(), path)
        story.model = path.read_bytes()
        writer.append(Model(name="classifier", file=writer.keep(Path("export/model.onnx"), path)))
    writer.append(End(status=status, timestamp_ms=START_MS + 1_000_000))
    assert writer.close() is None
    writer.journal.release()
    return story


def tiny_model() -> onnx.ModelProto:
    weights = np.random.default_rng().normal(size=(4, 2)).astype("float32")  # each is another
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weights"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor("weights", TensorProto.FLOAT, [4, 2], weights.tobytes(), raw=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_of(client: MlflowClient, journal: str) -> Run:
    """The one run of a journal."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    [run] = client.search_runs(experiments, f"tags.`{JOURNAL_TAG}` = '{journal}'")
    return run


def points_of(client: MlflowClient, run: Run) -> list[tuple[str, float, int, int]]:
    return [
        (name, point.value, point.timestamp, point.step)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]


def assert_arrived(client: MlflowClient, story: Story, folder: Path) -> None:
    """Compares what MLflow holds with what the journal said; ``folder`` is for downloads."""
    run = run_of(client, story.journal.name)
    run_id = run.info.run_id
    assert run.info.status == story.status
    assert run.data.params == story.params
    assert run.data.tags["made.models"] == "abc"
    points = points_of(client, run)
    assert len(points) == len(story.points)
    assert set(points) == story.points
    assert {item.path for item in client.list_artifacts(run_id, "reports")} == set(story.files)
    for path, sha256 in story.files.items():
        local = client.download_artifacts(run_id, path, str(folder))
        assert hashlib.sha256(Path(local).read_bytes()).hexdigest() == sha256
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["prepared"]
    assert len(run.outputs.model_outputs if run.outputs else []) == bool(story.model)
    models = [
        model
        for model in client.search_logged_models([run.info.experiment_id])
        if model.source_run_id == run_id
    ]
    assert len(models) == bool(story.model)
    for model in models:
        assert f"{model.status}" == "READY"
        mlflow.set_tracking_uri(client.tracking_uri)
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # which that has set
        local = mlflow.artifacts.download_artifacts(
            artifact_uri=f"models:/{model.model_id}", dst_path=str(folder)
        )
        assert Path(local, "model.onnx").read_bytes() == story.model


def nothing_waits(root: Path) -> bool:
    """Returns whether no journal of a finished run is left, and none was put aside."""
    return not any(path.is_dir() for path in (root / JOURNALS).iterdir())
