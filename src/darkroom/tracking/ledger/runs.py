"""The runs in MLflow, and what links them to files, commits and experiments."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkroom.tracking.ledger.key_output import OUTPUT_TAG, key_md5
from darkroom.tracking.ledger.results import Result
from darkroom.tracking.records import param_text

if TYPE_CHECKING:
    from mlflow.entities import Run

    from darkroom.tracking.mlflow.store import Store

PAGE = 1_000


@dataclass(frozen=True)
class KnownRun:
    """A run in MLflow."""

    run_id: str
    name: str
    status: str
    start_ms: int
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each metric."""
    tags: dict[str, str]
    end_ms: int = 0
    """0 if it has not ended."""

    @property
    def stage(self) -> str:
        return self.tags.get("stage", "")

    @property
    def commit(self) -> str:
        return self.tags.get("mlflow.source.git.commit", "")

    @property
    def experiment(self) -> str:
        """DVC's name of the run's experiment; empty if it has none."""
        return self.tags.get("dvc.experiment", "")

    @property
    def output(self) -> str:
        """DVC's hash of the run's key output; empty if it has none."""
        return self.tags.get(OUTPUT_TAG, "")

    def produced(self, result: Result) -> bool:
        """Return whether this run, or the one that it restores, produced ``result``."""
        md5 = key_md5(result)
        return (
            md5 != ""
            and self.stage == result.stage
            and self.output == md5
            and self.status == "FINISHED"
            and _agree(self.params, result.params)
        )


def known_runs(store: "Store", filter_string: str = "") -> list[KnownRun]:
    """Return the runs of the store's experiment, newest first.

    Args:
        filter_string: in MLflow's syntax, for example ``tags.stage = 'train'``.
    """
    runs: list[KnownRun] = []
    token = None
    while True:
        page = store.client.search_runs(
            [store.experiment.experiment_id],
            filter_string,
            max_results=PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += map(_known, page)
        token = page.token
        if not token:
            return runs


def top_names(store: "Store", run: KnownRun) -> set[str]:
    """Return the names of the files and folders at the top of a run's artifacts."""
    return {artifact.path for artifact in store.client.list_artifacts(run.run_id)}


def _known(run: "Run") -> KnownRun:
    info, data = run.info, run.data
    return KnownRun(
        info.run_id,
        info.run_name or "",
        info.status,
        info.start_time or 0,
        dict(data.params),
        dict(data.metrics),
        dict(data.tags),
        info.end_time or 0,
    )


def _agree(logged: dict[str, str], locked: dict[str, Any]) -> bool:
    """Return whether the parameters that both have are equal; 1 and 1.0 are."""
    return all(
        logged[name] == param_text(value) or _number(logged[name]) == _number(value)
        for name, value in locked.items()
        if name in logged
    )


def _number(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return param_text(value)
