"""Writes what a stage says into a journal; a process of its own, the sender, brings that to MLflow.

The stage never imports MLflow and never waits for it, but for some seconds at its end.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from darkroom.tracking import events, records
from darkroom.tracking.address import Address, redact
from darkroom.tracking.events import Event
from darkroom.tracking.git import git_tags
from darkroom.tracking.journal import JOURNALS, REFUSED, Journal, Writer
from darkroom.tracking.person import user_name
from darkroom.tracking.receipts import Receipt
from darkroom.tracking.root import project_root
from darkroom.tracking.run import warn
from darkroom.tracking.sender import start_sender
from darkroom.tracking.trouble import read_trouble

WAIT_SECONDS = 60.0
"""How long a stage waits at most, at its end, for MLflow to have everything."""

STALL_SECONDS = 20.0
"""How long without any progress."""

TROUBLE_SECONDS = 3.0
"""How long where MLflow is known to be out of reach."""

POLL_SECONDS = 0.05

HOLD_SECONDS = 5.0
"""How long the sender may hold the journal of a training that goes on."""


@contextmanager
def recording(title: str, waits: bool = False) -> Iterator["Recorder | None"]:
    """Makes a recorder for a stage or a command; its run's status tells how the block ended.

    FINISHED, FAILED with the error after an exception, KILLED after Ctrl-C or an exit. None where
    nothing can be written.

    Args:
        waits: is not to be seen in MLflow before ``Recorder.go_on`` was called, or it has ended.
    """
    try:
        recorder = Recorder(project_root(), title, waits)
    except Exception as error:  # whatever it is, an observer must not stop the work
        warn("this run is not logged", error)
        yield None
        return
    try:
        yield recorder
    except Exception as error:
        recorder.close("FAILED", f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:
        recorder.close("KILLED", f"{type(error).__name__} {error}".rstrip())
        raise
    recorder.close("FINISHED")


class Recorder:
    """Takes the events of one run."""

    def __init__(self, root: Path, title: str, waits: bool = False) -> None:
        self._root = root
        self._address = Address.of(root)
        self._points: set[tuple[str | None, str, int]] = set()
        self._has_warned = False
        self._mutex = threading.RLock()  # system metrics come from a thread of their own
        tags = start_tags(title)
        start = records.Start(
            stage=title,
            name=run_name(title, tags),
            tags={name: redact(text) for name, text in tags.items()},
            destination=self._address.digest,
            address=f"{self._address}",
            waits=waits,
            timestamp_ms=_now_ms(),
        )
        self._writer = Journal.create(root, start)
        self._sender = start_sender(root)

    @property
    def _journal(self) -> Journal:
        return self._writer.journal

    def record(self, event: Event, maker: Path | None = None) -> None:
        """Appends an event; ``maker``: to the run that made this artifact (see ``use``)."""
        with self._mutex:
            self._append_event(event, maker.as_posix() if maker else None)
        if not self._has_warned and (trouble := read_trouble(self._root, self._address)):
            self._has_warned = True
            print(
                f"tracking: {self._address} is out of reach ({trouble}); the work goes on, and its log "
                f"is kept in {JOURNALS}/",
                file=sys.stderr,
            )

    def use(self, artifact: Path, digest: str, as_child: bool) -> None:
        """Links the run to the one that made ``artifact``, whose events may follow."""
        self._append(records.Used(artifact=artifact.as_posix(), digest=digest, as_child=as_child))

    def go_on(self, memo: Path) -> None:
        """Goes on with the run whose journal ``memo`` names, if that is there; then notes ours there."""
        if earlier := self._find_earlier(memo):
            with self._mutex:
                self._continue(earlier)
        else:
            self._append(records.Go())
        try:
            memo.parent.mkdir(parents=True, exist_ok=True)
            memo.write_text(self._journal.name, encoding="utf-8")
        except OSError as error:
            warn("a training that goes on will be another run", error)

    def _find_earlier(self, memo: Path) -> Journal | None:
        try:
            earlier = Journal(self._root / JOURNALS / Path(memo.read_text(encoding="utf-8")).name)
        except (OSError, ValueError):
            return None
        if earlier.start().destination != self._address.digest or not earlier.hold(HOLD_SECONDS):
            return None
        return earlier

    def _continue(self, earlier: Journal) -> None:
        """Appends what was said so far to an ``earlier`` journal, and writes there from now on."""
        for line in earlier.read().lines:
            if isinstance(line.record, records.Metrics):
                self._note_points(line.maker, line.record)
        new, said = self._journal, self._journal.read().lines
        self._writer.close()
        self._writer = Writer(earlier)
        self._append(records.Resumed(timestamp_ms=_now_ms()))
        for line in said:
            if not isinstance(line.record, records.Start):
                self._append(line.record, line.maker)
        new.remove()
        new.release()

    def _append_event(self, event: Event, maker: str | None) -> None:
        match event:
            case events.Params():
                texts = {name: redact(text) for name, text in event.texts().items()}
                self._append(records.Params(values=texts), maker)
            case events.Tags(values):
                tags = {name: redact(text) for name, text in values.items()}
                self._append(records.Tags(values=tags), maker)
            case events.Metrics(values, step, timestamp_ms):
                self._append_metrics(values, step, timestamp_ms, maker)
            case events.Artifacts(paths):
                for path in paths:
                    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                        if file.name == ".gitignore" or file.is_dir():  # DVC's own
                            continue
                        if kept := self._keep(file):
                            self._append(kept, maker)
            case events.Dataset(name, digest, source, profile):
                dataset = records.Dataset(
                    name=name, digest=digest, source=source.as_posix(), profile=profile
                )
                self._append(dataset, maker)
            case events.OnnxModel():
                if kept := self._keep(event.path):
                    self._append_model(event, kept, maker)
            case events.Note(title, text):
                self._append(records.Note(title=title, text=redact(text)), maker)

    def _append_model(self, model: events.OnnxModel, file: records.File, maker: str | None) -> None:
        now_ms = model.timestamp_ms
        record = records.Model(
            name=model.name,
            file=file,
            params=model.params,
            tags=model.tags,
            metrics=model.metrics,
            dataset=model.dataset,
            step=model.step,
            timestamp_ms=now_ms,
        )
        self._append(record, maker)
        self._append(records.Candidate(sha256=file.sha256, timestamp_ms=now_ms), maker)

    def _append_metrics(
        self, values: dict[str, float], step: int, timestamp_ms: int, maker: str | None
    ) -> None:
        """Leaves out points that the journal has: a training that was killed repeats some."""
        new = {
            name: float(value)
            for name, value in values.items()
            if (maker, name, step) not in self._points
        }
        if not new:
            return
        metrics = records.Metrics(values=new, step=step, timestamp_ms=timestamp_ms)
        self._note_points(maker, metrics)
        self._append(metrics, maker)

    def _note_points(self, maker: str | None, metrics: records.Metrics) -> None:
        self._points.update((maker, name, metrics.step) for name in metrics.values)

    def _keep(self, file: Path) -> records.File | None:
        try:
            return self._writer.keep(file)
        except OSError as error:
            warn(f"{file} is not logged", error)
            return None

    def _append(self, record: records.Record, maker: str | None = None) -> None:
        error = self._writer.append(record, maker)
        if error and not self._has_warned:
            self._has_warned = True
            warn(f"{self._journal.folder} cannot be written, what is said waits in memory", error)

    def close(self, status: records.Status, error: str = "") -> None:
        """Says how the run ended, and waits a little for MLflow to have it."""
        self._append(records.End(status=status, error=redact(error), timestamp_ms=_now_ms()))
        size = self._journal.size
        failure = self._writer.close()
        self._journal.release()
        if failure:
            warn(f"{self._journal.folder}: the last things said are lost", failure)
        if self._wait(size):
            if (self._root / JOURNALS / REFUSED / self._journal.name).exists():
                print(
                    f"tracking: {self._address} refused a part of this run; {JOURNALS}/sender.log says "
                    f"which, and {JOURNALS}/{REFUSED}/ keeps it",
                    file=sys.stderr,
                )
            return
        trouble = read_trouble(self._root, self._address) or "it takes longer than a stage waits"
        print(
            f"tracking: {self._address} does not have this run yet ({trouble}); it is kept in "
            f"{JOURNALS}/, the next stage sends it, or `darkroom sync`",
            file=sys.stderr,
        )

    def _wait(self, size: int) -> bool:
        """Waits until MLflow has everything, or it is clear that this takes longer; tells which."""
        began = moved = time.monotonic()
        offset = -1
        while (now := time.monotonic()) - began < WAIT_SECONDS:
            receipt = Receipt.load(self._journal, self._address.digest)
            if receipt.offset >= size or not self._journal.file.exists():
                return True
            if receipt.offset != offset:
                offset, moved = receipt.offset, now
            has_trouble = read_trouble(self._root, self._address) is not None
            if now - moved > (TROUBLE_SECONDS if has_trouble else STALL_SECONDS):
                return False
            if (self._sender.poll() or 0) < 0:  # it was killed
                self._sender = start_sender(self._root)
            time.sleep(POLL_SECONDS)
        return False


def start_tags(title: str) -> dict[str, str]:
    """Returns the tags that a run begins with: its stage, what was run, by whom, at which commit."""
    script = Path("stages", f"{title.partition('@')[0]}.py")
    return {
        "stage": title,
        "mlflow.source.name": f"{script}" if script.exists() else f"darkroom {title}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user_name(),
        **git_tags(),
    }


def run_name(title: str, tags: Mapping[str, str]) -> str:
    """Names a run by its stage and its experiment, or its commit; + is one with changes."""
    if "dvc.experiment" in tags:
        return f"{title} {tags['dvc.experiment']}"
    commit = tags.get("mlflow.source.git.commit", "")[:7]
    return f"{title} {commit}{'+' if tags.get('git.dirty') == 'true' else ''}".rstrip()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
