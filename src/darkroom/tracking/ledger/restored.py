"""A run for a result that no run is known of: written into a journal from the result's own files."""

import csv
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.dataset.info import DatasetInfo, profile
from darkroom.errors import UserError
from darkroom.models.spec import ModelSpec, load_spec
from darkroom.paths import (
    DATASET,
    EXPORT,
    HISTORY,
    MANIFEST,
    METRICS,
    MODEL,
    PREPARED,
    REPORT_EVALUATE,
    REPORT_PREPARE,
    REPORT_TRAIN,
)
from darkroom.tracking.address import Address
from darkroom.tracking.descriptions import (
    about,
    kept_epoch,
    model_params,
    of_evaluation,
    of_preparation,
    of_training,
    scores,
    training_tags,
)
from darkroom.tracking.events import param_text
from darkroom.tracking.journal import records
from darkroom.tracking.journal.file import Journal, Writer
from darkroom.tracking.ledger.key_output import OUTPUT_TAG, STAGES, key_md5, key_output
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.results import Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.notes import table
from darkroom.tracking.recorder import plain, run_name
from darkroom.tracking.run import made_tag
from darkroom.training.course import course_metrics

RESTORED_TAG = "restored"
ORIGINAL_TAG = "restored.original"
ONNX = EXPORT / "model.onnx"


@dataclass(frozen=True)
class Missing:
    """A result that MLflow has no run of."""

    result: Result
    revision: Revision
    """Where it was found."""
    experiment: str = ""
    """DVC's name of the experiment whose it is."""
    original: str = ""
    """The id of another run that made the same, if one is known."""
    in_workspace: bool = True
    """Whether the dvc.lock in the folder names it; else that of ``revision``."""

    @property
    def name(self) -> str:
        """Names the run as if it had been logged when it was made."""
        tags = {"mlflow.source.git.commit": self.revision.commit, "dvc.experiment": self.experiment}
        return run_name(self.result.stage, about(self.result.params), tags)


def write_restored(missing: Missing, outputs: Outputs, root: Path, address: Address) -> None:
    """Writes the journal of a run for what is missing, from the files of the result.

    Args:
        root: of the project, where journals lie.

    Raises:
        OutputMissing, OutputDamaged: a file is nowhere to be had whole; nothing is written.
    """
    restored = _Restored(missing, outputs, root, address)
    try:
        _TELL[missing.result.verb](restored)
        restored.end()
    except BaseException:
        restored.drop()
        raise


class _Restored:
    """The journal of one such run, while it is written."""

    def __init__(self, missing: Missing, outputs: Outputs, root: Path, address: Address) -> None:
        self.result = missing.result
        self._outputs = outputs
        revision = missing.revision
        made_ms = revision.committed_ms or time.time_ns() // 1_000_000
        self.time_ms = made_ms + STAGES.index(self.result.verb)  # what made its inputs goes before
        tags = {
            "stage": self.result.stage,
            "mlflow.source.name": f"stages/{self.result.verb}.py",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": revision.author,
            "mlflow.source.git.commit": revision.commit,
            "git.branch": revision.branch,
            "dvc.experiment": missing.experiment,
            RESTORED_TAG: f"from dvc.lock at {missing.experiment or revision.name}",
            ORIGINAL_TAG: missing.original,
        }
        start = records.Start(
            stage=self.result.stage,
            name=plain(missing.name),
            tags={name: plain(text) for name, text in tags.items() if text},
            destination=address.digest,
            address=f"{address}",
            timestamp_ms=self.time_ms,
        )
        self._writer: Writer = Journal.create(root, start)
        self.params()

    def append(self, record: records.Record, maker: Path | None = None) -> None:
        """Appends a record.

        Raises:
            OSError: the disk does not take it.
        """
        if error := self._writer.append(record, maker.as_posix() if maker else None):
            raise error

    def params(self) -> None:
        values = {name: plain(param_text(value)) for name, value in self.result.params.items()}
        self.append(records.Params(values=values))

    def metrics(self, values: dict[str, float], step: int = 0, maker: Path | None = None) -> None:
        record = records.Metrics(values=values, step=step, timestamp_ms=self.time_ms)
        self.append(record, maker)

    def tags(self, values: dict[str, str]) -> None:
        self.append(records.Tags(values=values))

    def read(self, path: Path) -> bytes:
        return self._outputs.read(self.result, path)

    def read_json(self, path: Path) -> Any:
        return json.loads(self.read(path))

    def keep(self, *paths: Path, maker: Path | None = None) -> None:
        """Keeps files, or all files of folders, with the run."""
        for path in paths:
            for file in self.files(path):
                self.append(self.spool(file), maker)

    def spool(self, file: Path) -> records.File:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, "copy")
            self._outputs.copy(self.result, file, copy)
            return self._writer.keep(file, copy)

    def spec(self) -> ModelSpec:
        """Returns what the model says of itself."""
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, MODEL.name)
            self._outputs.copy(self.result, MODEL, copy)
            return load_spec(copy)

    def describe(
        self, title: str, rows: Callable[[], dict[str, str]], maker: Path | None = None
    ) -> None:
        """Writes a table into the run's description; none of files of another version of darkroom."""
        with suppress(UserError, ValueError, KeyError, TypeError):
            note = records.Note(title=title, text=table(plain(rows())))
            self.append(note, maker)

    def files(self, path: Path) -> list[Path]:
        """Returns the files of the result that are ``path``, or lie in it."""
        files = []
        for name, content in self.result.outs.items():
            if not Path(name).is_relative_to(path):
                continue
            if content.md5.endswith(".dir"):
                files += [Path(name, file) for file in self._outputs.listing(self.result, name)]
            else:
                files.append(Path(name))
        return sorted(files)

    def end(self) -> None:
        self.tags({OUTPUT_TAG: key_md5(self.result)})
        self.append(records.End(status="FINISHED", timestamp_ms=self.time_ms))
        if error := self._writer.close():
            raise error
        self._writer.journal.release()

    def drop(self) -> None:
        self._writer.journal.remove()
        self._writer.close()
        self._writer.journal.release()


KEPT = {
    "prepare": (DATASET, MANIFEST, REPORT_PREPARE),
    "train": (MODEL, REPORT_TRAIN),
    "evaluate": (REPORT_EVALUATE,),
    "export": (EXPORT,),
}
"""The files and folders that a stage keeps with its run."""


def _tell_fetch(run: _Restored) -> None:
    key = key_output(run.result.stage)
    assert key is not None
    run.metrics({"num_images": float(len(run.files(key)))})


def _tell_prepare(run: _Restored) -> None:
    info = run.read_json(DATASET)
    counts = run.read_json(REPORT_PREPARE / "metrics.json")
    run.tags({made_tag(PREPARED): info["digest"]})
    groups = ("num_files", "num_images", "num_pairs")
    run.metrics(
        {f"{group}/{name}": value for group in groups for name, value in counts.get(group, {}).items()}
    )
    run.keep(*KEPT["prepare"])
    run.describe("Data", lambda: of_preparation(DatasetInfo(**profile(info)), counts))


def _tell_train(run: _Restored) -> None:
    info = run.read_json(DATASET)
    run.append(records.Used(artifact=PREPARED.as_posix(), digest=info["digest"], as_child=False))
    run.append(
        records.Dataset(
            name="prepared", digest=info["digest"], source=PREPARED.as_posix(), profile=profile(info)
        )
    )
    run.tags({made_tag(MODEL): _sha256(run.read(MODEL))})
    for epoch, metrics in history_metrics(run.read(HISTORY).decode()):
        run.metrics(metrics, epoch)
    with suppress(UserError, KeyError, TypeError):  # of a model file of another version
        run.tags(training_tags(run.spec().training))
    run.keep(*KEPT["train"])
    run.describe("Training", lambda: of_training(run.spec(), DatasetInfo(**profile(info))))


def history_metrics(history: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields each epoch of history.csv, and the metrics that its training logged then."""
    kept: dict[str, str] = {}
    best: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(history)):
        best = row if row["is_best"] == "True" else best
        kept = row if row.get("is_kept", row["is_best"]) == "True" else kept  # older files kept the best
        yield int(row["epoch"]), {**_own_metrics(row), **course_metrics(kept, best)}


def _own_metrics(row: dict[str, str]) -> dict[str, float]:
    """Names the columns of history.csv as training does its metrics."""
    metrics = {}
    for column, text in row.items():
        if column in ("epoch", "is_best", "is_kept") or not text:
            continue
        split, _, name = column.partition("_")
        is_named = split in ("train", "val")
        metrics[f"{split}/{name}" if is_named else f"train/{column}"] = float(text)
    return metrics


def _tell_evaluate(run: _Restored) -> None:
    model = _use_model(run)
    metrics = run.read_json(METRICS)["test"]
    for maker in (None, model):
        run.metrics(scores(metrics), maker=maker)
        run.keep(*KEPT["evaluate"], maker=maker)
        run.describe("Test", lambda: of_evaluation(metrics), maker)


def _tell_export(run: _Restored) -> None:
    model = _use_model(run)
    run.keep(*KEPT["export"])
    if ONNX in run.files(EXPORT):
        file, spec = run.spool(ONNX), run.spec()
        record = records.Model(
            name="classifier",
            file=file,
            params=model_params(spec),
            tags={made_tag(MODEL): _sha256(run.read(MODEL))},
            step=kept_epoch(spec.training)["epoch"],
            metrics=scores(run.read_json(METRICS)["test"]),
            dataset=("prepared", run.read_json(DATASET)["digest"]),
            timestamp_ms=run.time_ms,
        )
        run.append(record, model)
        run.append(records.Candidate(sha256=file.sha256, timestamp_ms=run.time_ms), model)


def _use_model(run: _Restored) -> Path:
    digest = _sha256(run.read(MODEL))
    run.append(records.Used(artifact=MODEL.as_posix(), digest=digest, as_child=True))
    return MODEL


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_TELL: dict[str, Callable[[_Restored], None]] = {
    "fetch": _tell_fetch,
    "prepare": _tell_prepare,
    "train": _tell_train,
    "evaluate": _tell_evaluate,
    "export": _tell_export,
}
