"""One stage's run as the stages see it: what is told here becomes events, for MLflow and TensorBoard.

They observe: no stage needs them to finish, and no result is read from them.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from darkroom.tracking.events import (
    Artifacts,
    Dataset,
    Event,
    Graph,
    Images,
    Metrics,
    Note,
    OnnxModel,
    Params,
    PrCurves,
    Tags,
)
from darkroom.tracking.notes import table
from darkroom.tracking.secrets import redact

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_SHOWN = 64
"""How many images of the first batch are shown."""

Batch = TypeVar("Batch", bound=tuple[Any, ...])


class Journal(Protocol):
    """What takes a run's events for MLflow (see ``recorder.py``)."""

    def record(self, event: Event, maker: Path | None = None) -> None: ...
    def use(self, artifact: Path, digest: str, as_child: bool) -> None: ...
    def go_on(self, memo: Path) -> None: ...


class Run:
    """Takes what a stage says of itself.

    Args:
        journal: of the run, if it is to be in MLflow.
        others: further destinations; each takes every event, and leaves out what is not for it.
        maker: is not the journal's own run, but the one that made this artifact.
    """

    def __init__(
        self,
        journal: Journal | None = None,
        *others: Callable[[Event], None],
        maker: Path | None = None,
    ) -> None:
        self._journal = journal
        self._others = others
        self._maker = maker
        self._has_watched = False

    def _record(self, event: Event) -> None:
        if self._journal:
            self._journal.record(event, self._maker)
        for record in self._others:
            record(event)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records parameters by their full names."""
        self._record(Params(dict(params)))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Records text by which the run can be found."""
        self._record(Tags(dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Records numbers of this moment. This costs a fraction of a millisecond."""
        self._record(Metrics(dict(metrics), step, time.time_ns() // 1_000_000))

    def log_artifacts(self, *paths: Path) -> None:
        """Keeps files or folders with the run."""
        self._record(Artifacts(paths))

    def log_dataset(self, name: str, digest: str, source: Path, profile: Mapping[str, Any]) -> None:
        """Records a data set that was used."""
        self._record(Dataset(name, digest, source, dict(profile)))

    def log_onnx(
        self,
        path: Path,
        name: str,
        *,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        dataset: tuple[str, str],
        step: int,
    ) -> None:
        """Makes an ONNX file a logged model of the run, and the candidate of the model registry.

        Args:
            metrics: its scores; those that the run has already are not added to the run again.
            dataset: name and digest of the data that these are of.
            step: the epoch whose weights it has; what the run has said of it belongs to the model, too.
        """
        self._record(
            OnnxModel(
                path,
                name,
                dict(params),
                dict(tags),
                dict(metrics),
                dataset,
                step,
                timestamp_ms=time.time_ns() // 1_000_000,
            )
        )

    def describe(self, title: str, rows: Mapping[str, object]) -> None:
        """Writes a table into the run's description, below ``title``; replaces the one that is there."""
        self._record(Note(title, table({name: redact(f"{value}") for name, value in rows.items()})))

    def log_pr_curves(
        self, class_names: Sequence[str], targets: "Tensor", probabilities: "Tensor"
    ) -> None:
        """Records each class's precision-recall curve; arguments as in ``PrCurves``."""
        self._record(PrCurves(tuple(class_names), targets, probabilities))

    def watch(self, batches: Iterable[Batch], model: "nn.Module") -> Iterator[Batch]:
        """Passes batches (images first) on; shows images of the very first, and the model's graph."""
        for batch in batches:
            if not self._has_watched:
                self._has_watched = True
                self._record(Images("train/first_batch", batch[0][:NUM_SHOWN]))
                self._record(Graph(model, batch[0][:1]))
            yield batch

    def made(self, artifact: Path, digest: str) -> None:
        """Says that this run made ``artifact`` with these contents."""
        self.log_tags({made_tag(artifact): digest})

    def used(self, artifact: Path, digest: str, as_child: bool = False) -> "Run":
        """Links this run to the latest one that made ``artifact`` with these contents.

        Args:
            as_child: show this run below that one.

        Returns:
            That run, to log to (a model's test metrics belong to its training run). Where MLflow knows
            none, what is logged to it is left out.
        """
        if not self._journal:
            return Run()
        self._journal.use(artifact, digest, as_child)
        return Run(self._journal, maker=artifact)

    def go_on(self, memo: Path) -> None:
        """Says that this is the run that ``memo`` tells of, if it does, else notes this run there.

        A training that was killed goes on as one run. What it had logged is not logged again.
        """
        if self._journal:
            self._journal.go_on(memo)


def made_tag(artifact: Path | str) -> str:
    """Returns the tag that holds the digest of an artifact on the run that made it."""
    return f"made.{Path(artifact).as_posix()}"


def warn(failure: str, error: Exception) -> None:
    """Says in one line what could not be recorded, and why."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(f"tracking: {failure}: {text}", file=sys.stderr)
