"""One stage's run as the stages see it: what is told here becomes events, and those go to MLflow.

MLflow observes: no stage needs it to finish, and no result is read from it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from darkroom.tracking.events import Artifacts, Dataset, Event, Metrics, OnnxModel, Params, Tags


class Run:
    """Takes what a stage says of itself.

    Args:
        record: takes each event.
        find_maker: as ``used``, by which it is called.
    """

    def __init__(
        self,
        record: Callable[[Event], None] = lambda event: None,
        find_maker: Callable[[Path, str, bool], "Run"] | None = None,
    ) -> None:
        self._record = record
        self._find_maker = find_maker

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records parameters by their full names."""
        self._record(Params(dict(params)))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Records text by which the run can be found."""
        self._record(Tags(dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Records numbers of this moment. They are sent in batches, so this costs microseconds."""
        self._record(Metrics(dict(metrics), step, time.time_ns() // 1_000_000))

    def log_artifacts(self, *paths: Path) -> None:
        """Keeps files or folders with the run."""
        self._record(Artifacts(paths))

    def log_dataset(self, name: str, digest: str, source: Path, profile: Mapping[str, Any]) -> None:
        """Records a data set that was used."""
        self._record(Dataset(name, digest, source, dict(profile)))

    def log_onnx(self, path: Path, name: str) -> None:
        """Makes an ONNX file a logged model of the run."""
        self._record(OnnxModel(path, name))

    def made(self, artifact: Path, digest: str) -> None:
        """Says that this run made ``artifact`` with these contents."""
        self.log_tags({made_tag(artifact): digest})

    def used(self, artifact: Path, digest: str, as_child: bool = False) -> "Run":
        """Links this run to the latest one that made ``artifact`` with these contents.

        Args:
            as_child: show this run below that one.

        Returns:
            That run, to log to (a model's test metrics belong to its training run); one that
            keeps nothing where none is known.
        """
        return self._find_maker(artifact, digest, as_child) if self._find_maker else Run()


def made_tag(artifact: Path) -> str:
    """Returns the tag that holds the digest of an artifact on the run that made it."""
    return f"made.{artifact.as_posix()}"
