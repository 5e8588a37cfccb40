"""A run for a result that has none: its journal, written from the result's own files."""

import csv
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.paths import HISTORY
from darkroom.tracking.address import Address
from darkroom.tracking.descriptions import run_subject
from darkroom.tracking.journal.writer import Writer, create_journal, with_copies
from darkroom.tracking.ledger.key_output import OUTPUT_TAG, STAGES, key_md5
from darkroom.tracking.ledger.outputs import Outputs
from darkroom.tracking.ledger.results import Result
from darkroom.tracking.ledger.revisions import Revision
from darkroom.tracking.mlflow.elected import RESULT_TAG
from darkroom.tracking.recorder import run_name
from darkroom.tracking.records import End, File, Record, Start
from darkroom.tracking.reports import Files, report_inputs, report_outcome
from darkroom.tracking.run import Run
from darkroom.training.course import course_metrics

RESTORED_TAG = "restored"
ORIGINAL_TAG = "restored.original"


@dataclass(frozen=True)
class Missing:
    """A result that MLflow has no run of."""

    result: Result
    revision: Revision
    """The revision in which it was found."""
    experiment: str = ""
    """DVC's name of the experiment that it belongs to."""
    original: str = ""
    """The id of another run with the same result, if one is known."""
    in_workspace: bool = True
    """Whether the folder's dvc.lock has it; otherwise that of ``revision`` does."""

    @property
    def name(self) -> str:
        """The name that the run would have if it had been logged live."""
        tags = {"mlflow.source.git.commit": self.revision.commit, "dvc.experiment": self.experiment}
        return run_name(self.result.stage, run_subject(self.result.params), tags)


def write_restored(missing: Missing, outputs: Outputs, root: Path, address: Address) -> None:
    """Write the journal of a run for a result that has none, from the result's files.

    Args:
        root: the project's folder, which holds the journals.

    Raises:
        OutputMissing, OutputDamaged: a file cannot be found intact; nothing is written.
        OSError: the journal cannot be written.
    """
    result, files = missing.result, ResultFiles(missing.result, outputs)
    committed_ms = missing.revision.committed_ms or time.time_ns() // 1_000_000
    time_ms = committed_ms + STAGES.index(result.verb)  # a stage comes after those that it needs
    writer = create_journal(root, _start(missing, address, time_ms))
    try:
        run = Run(_Restoring(writer, files), clock=lambda: time_ms)
        report_inputs(result.verb, result.params, run, files)
        if result.verb == "train":
            report_curves(run, files)
        report_outcome(result.verb, result.params, run, files)
        run.log_tags({OUTPUT_TAG: key_md5(result)})
        _append(writer, End(status="FINISHED", timestamp_ms=time_ms))
        if error := writer.close():
            raise error
    except BaseException:
        writer.journal.remove()
        writer.close()
        raise
    finally:
        writer.journal.release()


def _start(missing: Missing, address: Address, time_ms: int) -> Start:
    revision = missing.revision
    tags = {
        "stage": missing.result.stage,
        "mlflow.source.name": f"stages/{missing.result.verb}.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": revision.author,
        "mlflow.source.git.commit": revision.commit,
        "git.branch": revision.branch,
        "dvc.experiment": missing.experiment,
        RESTORED_TAG: f"from dvc.lock at {missing.experiment or revision.name}",
        ORIGINAL_TAG: missing.original,
        RESULT_TAG: f"{missing.result.digest} {missing.experiment}".rstrip(),
    }
    return Start(
        stage=missing.result.stage,
        name=missing.name,
        tags={name: text for name, text in tags.items() if text},
        destination=address.digest,
        address=f"{address}",
        timestamp_ms=time_ms,
    )


class ResultFiles:
    """The files of an earlier result."""

    def __init__(self, result: Result, outputs: Outputs) -> None:
        self._result = result
        self._outputs = outputs

    def read(self, path: Path) -> bytes:
        return self._outputs.read(self._result, path)

    def below(self, path: Path) -> list[Path]:
        files = []
        for name, content in self._result.outs.items():
            if not Path(name).is_relative_to(path):
                continue
            if content.md5.endswith(".dir"):
                files += [Path(name, file) for file in self._outputs.listing(self._result, name)]
            else:
                files.append(Path(name))
        return sorted(files)

    @contextmanager
    def on_disk(self, path: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, path.name)
            self._outputs.copy(self._result, path, copy)
            yield copy


class _Restoring:
    """Appends records to the journal of a restored run, with copies of the files that they name."""

    def __init__(self, writer: Writer, files: ResultFiles) -> None:
        self._writer = writer
        self._files = files

    def record(self, record: Record, producer: str | None = None) -> None:
        copied = with_copies(record, self._copy)
        assert copied is not None
        _append(self._writer, copied, producer)

    def resume(self, memo: Path) -> None:
        raise AssertionError("a restored run has ended")

    def _copy(self, path: Path) -> File:
        with self._files.on_disk(path) as found:
            return self._writer.keep(path, found)


def _append(writer: Writer, record: Record, producer: str | None = None) -> None:
    if error := writer.append(record, producer):
        raise error


def report_curves(run: Run, files: Files) -> None:
    """Log the metrics of each epoch, which a live training logs as it runs."""
    for epoch, metrics in history_metrics(files.read(HISTORY).decode()):
        run.log_metrics(metrics, epoch)


def history_metrics(history: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each epoch in history.csv, and the metrics that a live training logs for it."""
    kept: dict[str, str] = {}
    best: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(history)):
        best = row if row["is_best"] == "True" else best
        kept = row if row.get("is_kept", row["is_best"]) == "True" else kept  # older files kept the best
        yield int(row["epoch"]), {**_own_metrics(row), **course_metrics(kept, best)}


def _own_metrics(row: dict[str, str]) -> dict[str, float]:
    """Return the metrics in a row of history.csv."""
    metrics = {}
    for column, text in row.items():
        if column in ("epoch", "is_best", "is_kept") or not text:
            continue
        split, _, name = column.partition("_")
        is_named = split in ("train", "val")
        metrics[f"{split}/{name}" if is_named else f"train/{column}"] = float(text)
    return metrics
