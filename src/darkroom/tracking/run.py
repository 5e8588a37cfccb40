"""A stage's run: takes what the stage reports, for MLflow and TensorBoard.

Both only observe: no stage needs them to finish, and no result is read from them.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from darkroom.tracking.notes import table
from darkroom.tracking.records import (
    Dataset,
    File,
    Graph,
    ImageBatch,
    Input,
    LiveRecord,
    Metrics,
    Model,
    Note,
    Params,
    PrCurves,
    Record,
    Tags,
    param_text,
)
from darkroom.tracking.secrets.redaction import redact

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_SHOWN = 64
"""Number of images of the first batch that are shown."""

Batch = TypeVar("Batch", bound=tuple[Any, ...])


class Destination(Protocol):
    """Takes a run's records for MLflow (see ``recorder.py``)."""

    def record(self, record: Record, producer: str | None = None) -> None: ...
    def resume(self, memo: Path) -> None: ...


class Run:
    """A stage's run.

    Args:
        destination: takes the records for MLflow, if the run is to be tracked there.
        observers: also get every record, and ignore those that are not for them.
        producer: log to the run that produced this artifact instead of the stage's own run.
        clock: returns the time in milliseconds since 1970, UTC.
    """

    def __init__(
        self,
        destination: Destination | None = None,
        *observers: Callable[[Record | LiveRecord], None],
        producer: Path | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._destination = destination
        self._observers = observers
        self._producer = producer
        self._clock = clock
        self._has_watched = False

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters by full name."""
        self._log(lambda: Params(values={name: param_text(value) for name, value in params.items()}))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log texts by which the run can be found."""
        self._log(lambda: Tags(values=dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at ``step``. This takes a fraction of a millisecond."""
        values = metrics.items()
        self._log(
            lambda: Metrics(
                values={name: float(value) for name, value in values},
                step=step,
                timestamp_ms=self._clock(),
            )
        )

    def log_artifacts(self, *paths: Path) -> None:
        """Keep files, or all files in folders, with the run."""
        for path in paths:
            for file in files_below(path):
                self.log_file(file)

    def log_file(self, path: Path) -> None:
        """Keep a file with the run."""
        self._log(lambda: File(path=path.as_posix()))

    def log_dataset(self, name: str, digest: str, source: Path, profile: Mapping[str, Any]) -> None:
        """Log a dataset that was used; ``profile`` describes it in values that JSON can hold."""
        self._log(
            lambda: Dataset(name=name, digest=digest, source=source.as_posix(), profile=dict(profile))
        )

    def log_onnx(
        self,
        path: Path,
        name: str,
        *,
        description: Path | None = None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        dataset: tuple[str, str],
        step: int,
    ) -> None:
        """Make an ONNX file a logged model of the run, and the candidate of the model registry.

        Args:
            description: model.json of the same export; with it, MLflow can serve the model.
            metrics: the model's scores; those that the run already has are not logged again.
            dataset: name and digest of the dataset on which the scores were measured.
            step: the epoch whose weights the model has; the metrics of that epoch are linked to it.
        """
        self._log(
            lambda: Model(
                name=name,
                file=File(path=path.as_posix()),
                description=File(path=description.as_posix()) if description else None,
                params=dict(params),
                tags=dict(tags),
                metrics=dict(metrics),
                dataset=dataset,
                step=step,
                timestamp_ms=self._clock(),
            )
        )

    def describe(self, title: str, rows: Mapping[str, object]) -> None:
        """Write a table into the run's description; replaces an earlier one of the same title."""
        # redacted before the table escapes Markdown's punctuation, which secrets may have
        self._log(lambda: Note(title=title, text=table({n: redact(f"{v}") for n, v in rows.items()})))

    def log_pr_curves(
        self, class_names: Sequence[str], targets: "Tensor", probabilities: "Tensor"
    ) -> None:
        """Show each class's precision-recall curve; arguments as in ``PrCurves``."""
        self._observe(PrCurves(tuple(class_names), targets, probabilities))

    def watch(self, batches: Iterable[Batch], model: "nn.Module") -> Iterator[Batch]:
        """Yield the batches (images first); show images of the first one, and the model's graph."""
        for batch in batches:
            if not self._has_watched:
                self._has_watched = True
                self._observe(ImageBatch("train/first_batch", batch[0][:NUM_SHOWN]))
                self._observe(Graph(model, batch[0][:1]))
            yield batch

    def log_output(self, artifact: Path, digest: str) -> None:
        """Log that this run produced ``artifact`` with these contents."""
        self.log_tags({made_tag(artifact): digest})

    def log_input(self, artifact: Path, digest: str, as_child: bool = False) -> "Run":
        """Link this run to the latest one that produced ``artifact`` with these contents.

        Args:
            as_child: show this run below that one.

        Returns:
            That run, to log to, as ``producer_of`` returns it.
        """
        self._log(lambda: Input(artifact=artifact.as_posix(), digest=digest, as_child=as_child))
        return self.producer_of(artifact)

    def producer_of(self, artifact: Path) -> "Run":
        """Return the run that produced an input of this run, to log to.

        A model's test metrics belong to its training run, for example. If MLflow has no such run, what
        is logged to it is discarded.
        """
        if not self._destination:
            return Run()
        return Run(self._destination, producer=artifact, clock=self._clock)

    def resume(self, memo: Path) -> None:
        """Resume the run that the file ``memo`` names, if there is one; then write this run there.

        A training that was killed and continues is one run. Metrics that it has are not logged again.
        """
        if self._destination:
            self._destination.resume(memo)

    def _log(self, create: Callable[[], Record]) -> None:
        try:
            record = create()
        except Exception as error:  # of any kind: an observer must not stop the work
            warn("not everything of this run is logged", error)
            return
        if self._destination:
            self._destination.record(record, self._producer.as_posix() if self._producer else None)
        self._observe(record)

    def _observe(self, record: Record | LiveRecord) -> None:
        for observe in self._observers:
            observe(record)


def files_below(path: Path) -> list[Path]:
    """Return the file ``path``, or all files of the folder ``path`` except DVC's ``.gitignore``."""
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".gitignore"]


def made_tag(artifact: Path | str) -> str:
    """Return the tag that holds an artifact's digest on the run that produced it."""
    return f"made.{Path(artifact).as_posix()}"


def warn(failure: str, error: Exception) -> None:
    """Print in one line what could not be recorded, and why."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(f"tracking: {failure}: {text}", file=sys.stderr)
