"""Writes what a stage says into a journal; a process of its own, the sender, brings that to MLflow.

The stage never imports MLflow and never waits for it, but for some seconds at its end.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.tracking import events
from darkroom.tracking.address import Address
from darkroom.tracking.events import Event
from darkroom.tracking.git import git_tags
from darkroom.tracking.journal import records
from darkroom.tracking.journal.file import JOURNALS, LENGTH_OF_ERROR, REFUSED, Journal, Writer
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import Trouble, read_trouble
from darkroom.tracking.mlflow.sender import has_sender, start_sender
from darkroom.tracking.person import user_name
from darkroom.tracking.root import project_root
from darkroom.tracking.run import warn
from darkroom.tracking.secrets import redact

WAIT_SECONDS = 60.0
"""How long a stage waits at most, at its end, for MLflow to have everything."""

STALL_SECONDS = 20.0
"""How long without any progress."""

TROUBLE_SECONDS = 3.0
"""How long where MLflow is known to be out of reach."""

KILLED_SECONDS = 3.0
"""How long one that is told to end."""

POLL_SECONDS = 0.05

HOLD_SECONDS = 5.0
"""How long the sender may hold the journal of a training that goes on."""


@contextmanager
def recording(title: str, waits: bool = False, about: str = "") -> Iterator["Recorder | None"]:
    """Makes a recorder for a stage or a command; its run's status tells how the block ended.

    FINISHED, FAILED with the error after an exception or an exit with a status, KILLED after a signal.
    None where nothing can be written.

    Args:
        waits: is not to be seen in MLflow before ``Recorder.go_on`` was called, or it has ended.
        about: a word for the run's name.
    """
    try:
        recorder = Recorder(project_root(), title, waits, about)
    except Exception as error:  # whatever it is, an observer must not stop the work
        warn("this run is not logged", error)
        yield None
        return
    try:
        yield recorder
    except BaseException as error:
        recorder.close(*_ending(error))
        raise
    recorder.close("FINISHED")


def _ending(error: BaseException) -> tuple[records.Status, str]:
    """Returns the status and the error of a run whose process ends so."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SystemExit):
        if not error.code:
            return "FINISHED", ""
        by_signal = isinstance(error.code, int) and error.code > 128
        return ("KILLED" if by_signal else "FAILED"), text
    return ("FAILED" if isinstance(error, Exception) else "KILLED"), text


class Recorder:
    """Takes the events of one run. Whatever goes wrong, the work goes on, and one warning is given."""

    def __init__(self, root: Path, title: str, waits: bool = False, about: str = "") -> None:
        self._root = root
        self._address = Address.of(root)
        self._began = time.time()
        self._points: set[tuple[str | None, str, int]] = set()
        self._has_warned = False
        self._sender: subprocess.Popen[bytes] | None = None
        self._mutex = threading.RLock()  # system metrics come from a thread of their own
        tags = start_tags(title)
        start = records.Start(
            stage=title,
            name=plain(run_name(title, about, tags)),
            tags=plain(tags),
            destination=self._address.digest,
            address=f"{self._address}",
            waits=waits,
            timestamp_ms=_now_ms(),
        )
        self._writer = Journal.create(root, start)
        with self._observing():
            self._sender = start_sender(root)

    @property
    def _journal(self) -> Journal:
        return self._writer.journal

    def record(self, event: Event, maker: Path | None = None) -> None:
        """Appends an event; ``maker``: to the run that made this artifact (see ``use``)."""
        with self._observing():
            self._append_event(event, maker.as_posix() if maker else None)
            if trouble := self._trouble():
                self._warn(f"{trouble.sentence(self._address)}; {self._what_now(trouble)}")

    def use(self, artifact: Path, digest: str, as_child: bool) -> None:
        """Links the run to the one that made ``artifact``, whose events may follow."""
        with self._observing():
            self._append(records.Used(artifact=artifact.as_posix(), digest=digest, as_child=as_child))

    def go_on(self, memo: Path) -> None:
        """Goes on with the run whose journal ``memo`` names, if that is there; then notes ours there."""
        with self._observing():
            if earlier := self._find_earlier(memo):
                self._continue(earlier)
            else:
                self._append(records.Go())
            memo.parent.mkdir(parents=True, exist_ok=True)
            memo.write_text(self._journal.name, encoding="utf-8")

    def _trouble(self) -> Trouble | None:
        """Returns why MLflow takes no run; what was so before this run may be over."""
        return read_trouble(self._root, self._address, self._began)

    @staticmethod
    def _what_now(trouble: Trouble) -> str:
        kept = f"the work continues, and this run is kept in {JOURNALS}/"
        if trouble.may_pass:
            return f"{kept} until a stage or `darkroom sync` can send it"
        return (
            f"{kept}; correct that, then run `darkroom sync`, or `darkroom sync --redirect` if you "
            "changed the address or the experiment"
        )

    @contextmanager
    def _observing(self) -> Iterator[None]:
        """Lets no failure through: an observer must not stop the work. One thread at a time."""
        try:
            with self._mutex:
                yield
        except Exception as error:  # whatever it is
            text = f"{error}".partition("\n")[0] or type(error).__name__
            self._warn(f"not everything of this run is logged: {redact(text)}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            print(f"tracking: {text}", file=sys.stderr)

    def _find_earlier(self, memo: Path) -> Journal | None:
        try:
            earlier = Journal(self._root / JOURNALS / Path(memo.read_text(encoding="utf-8")).name)
            if earlier.start().destination != self._address.digest:
                return None
        except (OSError, ValueError):
            return None
        return earlier if earlier.hold(HOLD_SECONDS) else None

    def _continue(self, earlier: Journal) -> None:
        """Appends what was said so far to an ``earlier`` journal, and writes there from now on."""
        for line in earlier.read().lines:
            if isinstance(line.record, records.Metrics):
                self._note_points(line.maker, line.record)
        new, own, said = self._journal, self._writer, self._journal.read().lines
        self._writer = Writer(earlier)
        self._append(records.Resumed(timestamp_ms=_now_ms()))
        for line in said:
            if not isinstance(line.record, records.Start):
                self._append(line.record, line.maker)
        own.close()
        new.remove()
        new.release()

    def _append_event(self, event: Event, maker: str | None) -> None:
        match event:
            case events.Params():
                self._append(records.Params(values=plain(event.texts())), maker)
            case events.Tags(values):
                self._append(records.Tags(values=plain(values)), maker)
            case events.Metrics(values, step, timestamp_ms):
                self._append_metrics(values, step, timestamp_ms, maker)
            case events.Artifacts(paths):
                for path in paths:
                    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                        if file.name == ".gitignore":  # DVC's own
                            continue
                        if (file == path or file.is_file()) and (kept := self._keep(file)):
                            self._append(kept, maker)
            case events.Dataset(name, digest, source, profile):
                dataset = records.Dataset(
                    name=name, digest=digest, source=plain(source.as_posix()), profile=plain(profile)
                )
                self._append(dataset, maker)
            case events.OnnxModel():
                if kept := self._keep(event.path):
                    self._append_model(event, kept, maker)
            case events.Note(title, text):
                self._append(records.Note(title=title, text=plain(text)), maker)

    def _append_model(self, model: events.OnnxModel, file: records.File, maker: str | None) -> None:
        now_ms = model.timestamp_ms
        record = records.Model(
            name=model.name,
            file=file,
            params=plain(model.params),
            tags=plain(model.tags),
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
        except FileNotFoundError as error:
            if file.exists():
                raise
            warn(f"{file} is not logged", error)
            return None

    def _append(self, record: records.Record, maker: str | None = None) -> None:
        if error := self._writer.append(record, maker):
            self._warn(f"not all of this run may be kept, {self._journal.folder}: {error.strerror}")

    def close(self, status: records.Status, error: str = "") -> None:
        """Says how the run ended, and waits a little for MLflow to have it."""
        with self._observing():
            text = plain(error)[:LENGTH_OF_ERROR]
            self._append(records.End(status=status, error=text, timestamp_ms=_now_ms()))
        with self._observing():
            size = self._journal.size
            failure = self._writer.close()
            self._journal.release()
            if failure:
                self._warn(f"not all of this run is kept, {self._journal.folder}: {failure}")
            elif self._wait(size, KILLED_SECONDS if status == "KILLED" else WAIT_SECONDS):
                self._tell_refused()
            else:
                trouble = self._trouble()
                if trouble and not trouble.may_pass:
                    self._warn(f"{trouble.text}; {self._what_now(trouble)}")
                    return
                why = trouble.text if trouble else "it takes longer than a stage waits"
                self._warn(
                    f"{self._address} does not have this run yet ({why}); it is kept in "
                    f"{JOURNALS}/, the next stage sends it, or `darkroom sync`"
                )

    def _tell_refused(self) -> None:
        aside = self._root / JOURNALS / REFUSED / self._journal.name
        if Receipt.load(self._journal, self._address.digest).refused or aside.exists():
            self._warn(
                f"{self._address} refused a part of this run; {JOURNALS}/sender.log says which, and its "
                f"journal is kept"
            )

    def _wait(self, size: int, seconds: float) -> bool:
        """Waits until MLflow has everything, or it is clear that this takes longer; tells which."""
        began = moved = time.monotonic()
        offset = -1
        try:
            while (now := time.monotonic()) - began < seconds:
                receipt = Receipt.load(self._journal, self._address.digest)
                if receipt.offset >= size or not self._journal.file.exists():
                    return True
                if receipt.offset != offset:
                    offset, moved = receipt.offset, now
                trouble = self._trouble()
                if trouble and not trouble.may_pass:
                    return False
                if now - moved > (TROUBLE_SECONDS if trouble else STALL_SECONDS):
                    return False
                self._replace_sender()
                time.sleep(POLL_SECONDS)
        except (KeyboardInterrupt, SystemExit):  # the work is done: only the waiting ends
            pass
        return False

    def _replace_sender(self) -> None:
        """Starts a sender where none is at work: ours, or the one it left the work to, was killed."""
        is_over = self._sender is None or self._sender.poll() is not None
        if is_over and not has_sender(self._root, self._address):
            self._sender = start_sender(self._root)


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


def run_name(title: str, about: str, tags: Mapping[str, str]) -> str:
    """Names a run by its stage, what it is about, and its experiment or commit; + has changes."""
    commit = tags.get("mlflow.source.git.commit", "")[:7]
    mark = "+" if tags.get("git.dirty") == "true" else ""
    return " ".join(filter(None, (title, about, tags.get("dvc.experiment") or f"{commit}{mark}")))


def plain(value: Any) -> Any:
    """Returns texts, in dicts and lists too, without secrets, and as UTF-8 can hold them."""
    match value:
        case str():
            return redact(value.encode("utf-8", "backslashreplace").decode())
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
