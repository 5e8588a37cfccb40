"""How long a stage will take, estimated from its earlier runs in MLflow and in the local journal."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from darkroom.errors import counted
from darkroom.planning.database import copy_database
from darkroom.planning.plan import Plan, PlannedStage
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import Journal, journals
from darkroom.tracking.journal.trouble import reason
from darkroom.tracking.ledger.runs import known_runs
from darkroom.tracking.records import NotResumed, Params, param_text

WORK = {
    "prepare": ("data.path", "prepare.image_size", "prepare.near_duplicates"),
    "train": (
        *("augment.policy", "model.name", "model.width", "model.depth", "model.patch_size"),
        *("train.epochs", "train.batch_size", "train.image_size", "train.freeze"),
        *("train.feature_views", "train.lr", "train.patience", "train.precision", "train.compile"),
    ),
    "evaluate": ("evaluate.tta",),
    "export": ("export.formats",),
}
"""Parameters on which the work of a stage depends most. ``train.lr`` is one if it is ``auto``."""

PROPORTIONAL = "train.epochs"
"""The parameter with which the duration grows in proportion."""

NUM_RUNS = 5
"""Number of runs of which the median is taken, the newest."""


@dataclass(frozen=True)
class TimedRun:
    """A finished run of a stage."""

    stage: str
    start_ms: int
    seconds: float
    params: Mapping[str, str]
    """By full name, as text."""


def with_costs(plan: Plan, params: Mapping[str, Any], root: Path) -> Plan:
    """Return the plan with the estimated duration of each stage that runs.

    Args:
        params: of params.yaml by full name.
        root: the folder of the project.
    """
    if not plan.runs:
        return plan
    runs = list(_journalled(root))
    remarks = list(plan.remarks)
    try:
        runs += _in_mlflow(root)
    except Exception as error:  # of any kind: an estimate is not worth a failure
        remarks.append(f"MLflow could not be read ({reason(error)}): durations are from the journal")
    texts = {name: param_text(value) for name, value in params.items()}
    return Plan([estimated(one, runs, texts) for one in plan.stages], remarks)


def estimated(planned: PlannedStage, runs: list[TimedRun], params: Mapping[str, str]) -> PlannedStage:
    """Return a planned stage with its duration, or why that is unknown, if its command runs."""
    if planned.action != "run":
        return planned
    runs = sorted((run for run in runs if run.stage == planned.stage), key=lambda run: -run.start_ms)
    if not runs:
        return replace(planned, estimate="no earlier run of this stage is known")
    similar = [run for run in runs if not _other_work(planned.stage, run.params, params)]
    newest = [_scaled(run, params) for run in similar[:NUM_RUNS]]
    if not newest:
        differing = _other_work(planned.stage, runs[0].params, params)
        return replace(planned, estimate=f"no earlier run with the same {', '.join(differing)}")
    seconds = round(statistics.median(newest), 1)
    noun = counted(len(newest), "run")
    return replace(planned, seconds=seconds, estimate=f"as {noun} with similar parameters took")


def _other_work(stage: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the parameters of the work that differ, except those to which a duration is scaled."""
    return [
        name
        for name in WORK.get(stage, ())
        if name in old and name in new and old[name] != new[name] and not _is_scale(name, old, new)
    ]


def _is_scale(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    if name == "train.lr":
        return "auto" not in (old[name], new[name])
    return name == PROPORTIONAL and "train.patience" in new and new["train.patience"] == "null"


def _scaled(run: TimedRun, params: Mapping[str, str]) -> float:
    if PROPORTIONAL not in run.params:
        return run.seconds
    return run.seconds * float(params[PROPORTIONAL]) / float(run.params[PROPORTIONAL])


def _journalled(root: Path) -> Iterator[TimedRun]:
    """Yield the finished runs that MLflow does not have yet."""
    for journal in journals(root):
        run = _journalled_run(journal)
        if run is not None:
            yield run


def _journalled_run(journal: Journal) -> TimedRun | None:
    end = journal.end()
    if end is None or end.status != "FINISHED":
        return None
    start = journal.start()
    records = [line.record for line in journal.read().lines]
    if "restored" in start.tags or (
        start.may_resume and not any(isinstance(r, NotResumed) for r in records)
    ):
        return None
    params = {name: text for r in records if isinstance(r, Params) for name, text in r.values.items()}
    seconds = (end.timestamp_ms - start.timestamp_ms) / 1_000
    return TimedRun(start.stage, start.timestamp_ms, seconds, params)


def _in_mlflow(root: Path) -> list[TimedRun]:
    """Return the finished runs in MLflow; the database in the project is read from a copy.

    Raises:
        OutOfReach: MLflow does not answer.
    """
    address = Address.of(root)
    if not address.is_embedded:
        return _read(root, address)
    database = root / "mlflow.db"
    if not database.exists():
        return []
    with tempfile.TemporaryDirectory(prefix="darkroom-plan-") as scratch:
        copy = Path(scratch, "runs.db")
        copy_database(database, copy)
        return _read(Path(scratch), replace(address, uri=f"sqlite:///{copy}", is_embedded=False))


def _read(root: Path, address: Address) -> list[TimedRun]:
    from darkroom.tracking.mlflow.store import Store, open_client

    client = open_client(root, address)
    experiment = client.get_experiment_by_name(address.experiment)
    if experiment is None:
        return []
    runs = known_runs(Store(address, client, experiment, address.uri), "status = 'FINISHED'")
    return [
        TimedRun(run.stage, run.start_ms, (run.end_ms - run.start_ms) / 1_000, run.params)
        for run in runs
        if run.end_ms and "restored" not in run.tags
    ]
