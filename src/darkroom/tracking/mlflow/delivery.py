"""Writes a journal into MLflow. Repeating it, also after it was cut off anywhere, adds nothing twice.

MLflow identifies a point of a metric by run, key, value, timestamp and step, and ignores parameters and
tags that it already has. Whatever MLflow would duplicate is searched for first: runs and logged models
have tags that identify them, and artifacts are compared by size and SHA-256, which also shows that they
arrived intact.
"""

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from darkroom.digests import file_sha256
from darkroom.tracking.journal.file import LENGTH_OF_ERROR, Journal, Reading
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import Misconfigured, OutOfReach, Refused, reason
from darkroom.tracking.mlflow.conflicts import again_on_conflict
from darkroom.tracking.mlflow.elected import RESULT_TAG, elect_run, is_completed_elsewhere
from darkroom.tracking.mlflow.logged_model import LENGTH_OF_DIGEST, log_onnx
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.mlflow.store import MAY_PASS, check_active
from darkroom.tracking.notes import NOTE_TAG, with_section
from darkroom.tracking.records import (
    Dataset,
    End,
    File,
    Input,
    Metrics,
    Model,
    Note,
    Params,
    Record,
    Resumed,
    Tags,
)
from darkroom.tracking.run import made_tag

if TYPE_CHECKING:
    from darkroom.tracking.mlflow.store import Store

Result = TypeVar("Result")

JOURNAL_TAG = "darkroom.journal"
"""The tag that identifies the run of a journal."""

LIMITS: dict[type, int] = {Metric: 1_000, Param: 100, RunTag: 100}
"""MLflow's limits per call."""

NUM_PRODUCERS = 100
"""Maximum number of runs with the same output that are considered."""

Item: TypeAlias = "Metric | Param | RunTag"


class Delivery:
    """Sends one journal, and keeps its receipt."""

    def __init__(self, store: "Store", journal: Journal, receipt: Receipt) -> None:
        self._store = store
        self._client = store.client
        self._journal = journal
        self._receipt = receipt
        self._waiting: list[Item] = []

    def send(self, reading: Reading) -> None:
        """Send the records; if MLflow has lost the run, send the whole journal again, as a new run.

        Raises:
            OutOfReach: MLflow cannot be reached; the message says why. The receipt says what arrived.
        """
        try:
            self._send(reading)
        except _Gone:
            self._receipt.forget()
            self._receipt.save(self._journal)
            try:
                self._send(self._journal.read())
            except _Gone:
                raise OutOfReach("the run disappears as soon as it is created") from None

    def _send(self, reading: Reading) -> None:
        self._waiting = []
        if not self._receipt.run_id and not self._find_or_create_run():
            self._acknowledge(reading.end)
            return
        time_ms = self._time_of_restored()
        for line, offset in zip(reading.lines, reading.offsets, strict=True):
            record = _at_time(line.record, time_ms)
            if line.producer is None and isinstance(record, Metrics | Params | Tags):
                self._waiting += _items(record)
                if len(self._waiting) < LIMITS[Metric]:
                    continue
                self._flush()
            else:
                self._flush()
                self._send_alone(record, line.producer)
            self._acknowledge(offset)
        self._flush()
        for remark in reading.damage:
            self._note(remark)
        self._acknowledge(reading.end)

    def _acknowledge(self, offset: int) -> None:
        if self._store.is_replaced():  # it was written into a database that was deleted meanwhile
            raise _Gone
        self._receipt.offset = offset
        self._receipt.save(self._journal)

    def _find_or_create_run(self) -> bool:
        """Set the journal's run; return False if another machine has sent the same run completely."""
        is_wanted = True
        try:
            if RESULT_TAG in self._journal.start().tags:
                self._receipt.run_id, is_wanted = self._elect_run()
            else:
                self._receipt.run_id = self._find_run() or self._create_run()
        except Refused as refusal:  # for example because the experiment was deleted
            experiment_id, address = self._store.experiment.experiment_id, self._store.address
            check_active(self._call(lambda: self._client.get_experiment(experiment_id)), address)
            raise Misconfigured(f"{address} refuses every run: {refusal}") from refusal
        self._receipt.save(self._journal)
        return is_wanted

    def _elect_run(self) -> tuple[str, bool]:
        experiment_id = self._store.experiment.experiment_id
        run = elect_run(self._client, experiment_id, self._journal, self._call, self._create_run)
        is_own = run.data.tags.get(JOURNAL_TAG) == self._journal.name
        is_complete = not is_own and is_completed_elsewhere(self._client, run, self._call)
        return run.info.run_id, not is_complete

    def _time_of_restored(self) -> int | None:
        """Return the time of all points of a restored run, which another machine may have created.

        None for other runs: their points have the times at which they were reported.
        """
        if RESULT_TAG not in self._journal.start().tags:
            return None
        return self._call(lambda: self._client.get_run(self._receipt.run_id)).info.start_time

    def _find_run(self) -> str:
        found = self._call(
            lambda: self._client.search_runs(
                [self._store.experiment.experiment_id],
                f"tags.`{JOURNAL_TAG}` = '{self._journal.name}'",
                max_results=1,
            )
        )
        return found[0].info.run_id if found else ""

    def _create_run(self) -> str:
        start = self._journal.start()
        run = self._call(
            lambda: self._client.create_run(
                self._store.experiment.experiment_id,
                start_time=start.timestamp_ms,
                tags={**start.tags, JOURNAL_TAG: self._journal.name},
                run_name=start.name,
            )
        )
        return run.info.run_id

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._log(self._receipt.run_id, waiting)

    def _log(self, run_id: str, items: list[Item]) -> None:
        for kind, limit in LIMITS.items():
            same = [item for item in items if isinstance(item, kind)]
            for start in range(0, len(same), limit):
                self._log_batch(run_id, same[start : start + limit])

    def _log_batch(self, run_id: str, items: list[Item]) -> None:
        """Send items of one kind; if MLflow refuses one of them, send all others."""
        argument = {Metric: "metrics", Param: "params", RunTag: "tags"}[type(items[0])]
        try:
            self._call(lambda: self._client.log_batch(run_id, **{argument: items}))
        except Refused as refusal:
            if len(items) == 1:
                self._refuse(f"{items[0].key} = {items[0].value}", refusal)
                return
            half = len(items) // 2
            self._log_batch(run_id, items[:half])
            self._log_batch(run_id, items[half:])

    def _send_alone(self, record: Record, producer: str | None) -> None:
        run_id = self._receipt.run_id if producer is None else self._receipt.producers.get(producer, "")
        if not run_id:  # no known run produced it
            return
        try:
            self._send_record(record, run_id)
        except Refused as refusal:
            self._refuse(f"{record.kind} {_label(record)}".strip(), refusal)

    def _send_record(self, record: Record, run_id: str) -> None:
        match record:
            case Metrics():
                known = self._call(lambda: self._client.get_run(run_id)).data.metrics
                values = {k: v for k, v in record.values.items() if known.get(k) != v}
                self._log(run_id, _items(record.model_copy(update={"values": values})))
            case Params() | Tags():
                self._log(run_id, _items(record))
            case File():
                self._send_file(run_id, record)
            case Dataset():
                self._send_dataset(run_id, record)
            case Model(file=file, description=description):
                path = self._spooled(file)
                described = self._spooled(description) if description else None
                model = self._call(lambda: log_onnx(self._store, run_id, path, record, described))
                self._call(lambda: propose(self._store, model, record.timestamp_ms))
            case Note(title=title, text=text):
                note = self._call(lambda: self._client.get_run(run_id)).data.tags.get(NOTE_TAG, "")
                self._log(run_id, [RunTag(NOTE_TAG, with_section(note, title, text))])
            case Input():
                self._link(run_id, record)
            case Resumed():
                self._call(lambda: self._client.update_run(run_id, status="RUNNING"))
                if "error" in self._call(lambda: self._client.get_run(run_id)).data.tags:
                    self._call(lambda: self._client.delete_tag(run_id, "error"))
            case End(status=status, error=error, timestamp_ms=timestamp_ms):
                if error:
                    self._log(run_id, [RunTag("error", error[:LENGTH_OF_ERROR])])
                self._call(lambda: self._client.set_terminated(run_id, status, timestamp_ms))

    def _refuse(self, what: str, refusal: Refused) -> None:
        self._note(f"MLflow refused {what}: {refusal}")

    def _note(self, remark: str) -> None:
        if remark not in self._receipt.refused:
            self._receipt.refused.append(remark)

    def _spooled(self, file: File) -> Path:
        path = self._journal.spooled(file)
        try:
            if file_sha256(path) == file.sha256:
                return path
        except FileNotFoundError:
            raise Refused(f"its copy, {path}, is gone") from None
        raise Refused(f"its copy, {path}, is damaged")

    def _send_file(self, run_id: str, file: File) -> None:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            path = PurePosixPath(path.name)
        copy = self._spooled(file)
        if self._has(run_id, path, file):
            return
        folder = path.parent.as_posix() if path.parent.parts else None  # None: MLflow's top folder
        self._call(lambda: self._client.log_artifact(run_id, str(copy), folder))
        if not self._has(run_id, path, file):
            raise OutOfReach(f"{path} did not arrive intact")

    def _has(self, run_id: str, path: PurePosixPath, file: File) -> bool:
        """Return whether MLflow has the artifact, with the right size and SHA-256."""
        folder = path.parent.as_posix() if path.parent.parts else None
        listed = self._call(lambda: self._client.list_artifacts(run_id, folder))
        if not any(found.path == path.as_posix() and found.file_size == file.size for found in listed):
            return False
        with TemporaryDirectory() as scratch:
            try:
                local = self._call(lambda: self._client.download_artifacts(run_id, f"{path}", scratch))
            except Refused as refusal:  # MLflow's error after a download that was cut off
                raise OutOfReach(f"{refusal}") from refusal
            return file_sha256(Path(local)) == file.sha256

    def _send_dataset(self, run_id: str, dataset: Dataset) -> None:
        entity = DatasetEntity(
            name=dataset.name,
            digest=dataset.digest[:LENGTH_OF_DIGEST],
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps({**dataset.profile, "digest": dataset.digest}),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self._call(lambda: self._client.log_inputs(run_id, [DatasetInput(entity, tags)]))

    def _link(self, run_id: str, source: Input) -> None:
        """Find the run that produced an input, and tag this run with it.

        If several runs have the same output, take the latest of the same DVC experiment, else the
        latest.
        """
        found = self._call(
            lambda: self._client.search_runs(
                [self._store.experiment.experiment_id],
                f"tags.`{made_tag(source.artifact)}` = '{source.digest}'",
                max_results=NUM_PRODUCERS,
                order_by=["attributes.start_time DESC"],
            )
        )
        experiment = self._journal.start().tags.get("dvc.experiment")
        same = [run for run in found if run.data.tags.get("dvc.experiment") == experiment]
        maker = next((run.info.run_id for run in [*same, *found]), "")
        self._receipt.producers[source.artifact] = maker
        if maker:
            link = "mlflow.parentRunId" if source.as_child else f"maker.{source.artifact}"
            self._log(run_id, [RunTag(link, maker)])

    def _call(self, action: Callable[[], Result]) -> Result:
        try:
            return again_on_conflict(action)
        except MlflowException as error:
            if self._is_run_gone(error):
                raise _Gone from error
            status = error.get_http_status_code()
            if 400 <= status < 500 and status not in MAY_PASS:
                raise Refused(reason(error)) from error
            raise OutOfReach(reason(error)) from error
        except (OutOfReach, Refused):
            raise
        except Exception as error:  # of an object store or a database: it may be temporary
            raise OutOfReach(reason(error)) from error

    def _is_run_gone(self, error: MlflowException) -> bool:
        if not self._receipt.run_id or self._receipt.run_id not in f"{error}":
            return False
        does_not_exist = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
        return error.error_code == does_not_exist or "must be in the 'active' state" in f"{error}"


class _Gone(Exception):
    """MLflow does not have the journal's run any more."""


def _items(record: Metrics | Params | Tags) -> list[Item]:
    match record:
        case Metrics(values=values, step=step, timestamp_ms=timestamp_ms):
            return [Metric(name, value, timestamp_ms, step) for name, value in values.items()]
        case Params(values=values):
            return [Param(name, value) for name, value in values.items()]
        case Tags(values=values):
            return [RunTag(name, value) for name, value in values.items()]


def _at_time(record: Record, time_ms: int | None) -> Record:
    if time_ms is None or "timestamp_ms" not in type(record).model_fields:
        return record
    return record.model_copy(update={"timestamp_ms": time_ms})


def _label(record: Record) -> str:
    return getattr(record, "path", getattr(record, "name", ""))
