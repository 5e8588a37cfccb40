"""One training of a sweep: up to a number of epochs, from where an earlier one ended."""

import hashlib
import json
import shutil
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path

from darkroom.bounded_json import load_json
from darkroom.config.train import TrainConfig
from darkroom.errors import UserError
from darkroom.params import flatten
from darkroom.runtime import Runtime
from darkroom.training.checkpoint import Checkpoints
from darkroom.training.course import EpochResult, course_of
from darkroom.training.interruption import Interruption
from darkroom.training.job import make_job
from darkroom.training.outputs import write_outputs
from darkroom.training.session import Session, settle
from darkroom.whole_files import whole_file

RESULT = "result.json"


@dataclass(frozen=True)
class Unit:
    """A training with one seed, up to a number of epochs."""

    config: TrainConfig
    epochs: int
    """Number of epochs, counted from the first, after which it pauses."""


@dataclass(frozen=True)
class Outcome:
    """The results of a unit."""

    results: list[EpochResult] = field(default_factory=list)
    """Of the epochs so far."""
    settled: dict[str, float] = field(default_factory=dict)
    """The numbers of ``train.lr``, ``train.batch_size`` and ``train.weight_decay``."""
    seconds: float = 0.0
    """Duration of the training in the process that ended it."""
    failure: str = ""
    """Why it ended early; empty if it did not."""

    @property
    def score(self) -> float:
        """The validation macro F1 of the epoch that is kept so far."""
        return course_of(self.results).kept.val_f1_macro

    @property
    def standard_error(self) -> float:
        return course_of(self.results).kept.val_f1_standard_error


def train_unit(unit: Unit, runtime: Runtime, root: Path, log: Path) -> Outcome:
    """Train a unit, or continue it from its newest checkpoint; a finished one is read from disk.

    A paused training leaves a checkpoint, from which the same training with more epochs continues. Its
    bytes are those of a training without a pause.

    Args:
        root: folder for checkpoints and results.
        log: file to which what the training prints is appended.
    """
    place = _place(unit.config, root)
    if (known := known_outcome(unit, root)) is not None:
        return known
    place.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("a", encoding="utf-8") as file, redirect_stdout(file):
            outcome = _train(unit, place, runtime)
    except UserError as error:
        return Outcome(failure=f"{error}")
    with whole_file(place / RESULT) as part:
        part.write_text(json.dumps({**asdict(outcome), "epochs": unit.epochs}), encoding="utf-8")
    return outcome


def _train(unit: Unit, place: Path, runtime: Runtime) -> Outcome:
    began = time.monotonic()
    job = make_job(unit.config, runtime).with_features()
    with (
        Interruption() as interruption,
        Checkpoints(place / "checkpoints", runtime.checkpoint_seconds, interruption) as checkpoints,
    ):
        options, state = settle(job, place, interruption.check)
        checkpoints.restore(state)
        results = []
        for result in job.fit(state, options, lambda batches: batches, checkpoints):
            results.append(result)
            if result.epoch == unit.epochs:
                break
        checkpoints.save(state)
    for old in sorted(checkpoints.folder.glob("*.pt"))[:-1]:
        old.unlink()
    settled = {
        f"train.{name}": float(getattr(options, name)) for name in ("lr", "batch_size", "weight_decay")
    }
    return Outcome(results, settled, time.monotonic() - began)


def _place(config: TrainConfig, root: Path) -> Path:
    """Return the folder of a training."""
    return root / hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def known_outcome(unit: Unit, root: Path) -> Outcome | None:
    """Return the stored outcome of a unit, if there is one; ``root``: see ``train_unit``."""
    try:
        values = load_json(_place(unit.config, root) / RESULT)
    except (OSError, ValueError):
        return None
    results = [EpochResult(**result) for result in values["results"]]
    was_patient = len(results) == values["epochs"]
    if len(results) < unit.epochs and was_patient:
        return None
    return Outcome(results[: unit.epochs], values["settled"], values["seconds"], values["failure"])


def write_model(
    config: TrainConfig, runtime: Runtime, root: Path, log: Path, model: Path, report: Path
) -> None:
    """Write the model of a finished training and its report, as ``train`` writes them.

    Its last checkpoint is used, which is removed then. Without one, it is trained again.

    Args:
        root, log: see ``train_unit``.
        model: the file to write.
        report: folder for the files of the report.
    """
    model.parent.mkdir(parents=True, exist_ok=True)
    report.mkdir(parents=True, exist_ok=True)
    place = _place(config, root)
    with (
        log.open("a", encoding="utf-8") as file,
        redirect_stdout(file),
        Interruption() as interruption,
        Checkpoints(place / "checkpoints", runtime.checkpoint_seconds, interruption) as checkpoints,
    ):
        job = make_job(config, runtime).with_features()
        options, state = settle(job, place, interruption.check)
        checkpoints.restore(state)
        session = Session(job, options, state, checkpoints, lambda batches, _: batches)
        for _ in session.epochs():
            pass
        write_outputs(session, flatten(config), model, report)


def forget(config: TrainConfig, root: Path) -> None:
    """Remove the checkpoints of a training that will not continue; its results stay."""
    shutil.rmtree(_place(config, root) / "checkpoints", ignore_errors=True)
