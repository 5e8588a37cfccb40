"""The trials of a sweep in Optuna's storage: a journal file, or a database that a team shares.

A trial is stored in one step, with its number and its values, before it is trained; a machine then takes
it. What it scored follows. So whenever a sweep is killed, the storage says which trials there are and
what is missing.
"""

import getpass
import platform
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from darkroom.errors import UserError
from darkroom.params import shown
from darkroom.sweep.definition import Sweep
from darkroom.sweep.sampling import distributions, to_optuna
from darkroom.sweep.space import Point
from darkroom.sweep.storage import HEARTBEAT_SECONDS, database_failures, open_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

State = Literal["waiting", "running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial and what is known of it."""

    index: int
    """0 has the values of params.yaml."""
    id: int
    """In Optuna's storage."""
    point: Point
    state: State
    scores: dict[int, list[float]] = field(default_factory=dict)
    """By number of epochs: the validation macro F1 of the kept epoch, for each seed."""
    curve: dict[int, float] = field(default_factory=dict)
    """The validation macro F1 of each epoch, from 1; the mean over seeds."""
    failure: str = ""
    worker: str = ""
    """The machine and folder that trains it."""
    error: float = 0.0
    """Standard error of the last score by the bootstrap over validation images."""

    def score(self, epochs: int | None = None) -> float:
        """Return the mean score over seeds after a number of epochs; by default after the most.

        0 for a trial that failed.
        """
        if self.state == "failed" or not self.scores:
            return 0.0
        of_seeds = self.scores[max(self.scores) if epochs is None else epochs]
        return sum(of_seeds) / len(of_seeds)


class Study:
    """The trials of one sweep; see ``open_study``."""

    def __init__(self, sweep: Sweep, storage: "BaseStorage", study_id: int) -> None:
        self._sweep, self._storage, self._id = sweep, storage, study_id
        self.worker = f"{getpass.getuser()}@{platform.node()}:{Path.cwd()}"
        self._in_training: set[int] = set()

    @property
    def is_shared(self) -> bool:
        """Whether other machines may take trials, too."""
        return self._sweep.storage is not None

    def trials(self) -> list[Trial]:
        """Return the trials, by number, without those that were given up.

        A number that two machines took at once counts once.
        """
        found: dict[int, Trial] = {}
        for one in self._storage.get_all_trials(self._id, deepcopy=False):
            index = one.user_attrs.get("index")
            if index is None or index in found or index >= self._sweep.num_trials or _is_given_up(one):
                continue
            found[index] = Trial(
                index,
                one._trial_id,
                self._point(one),
                _STATES[one.state.name],
                {int(epochs): scores for epochs, scores in one.user_attrs.get("scores", {}).items()},
                dict(one.intermediate_values),
                one.user_attrs.get("failure", ""),
                one.user_attrs.get("worker", ""),
                one.user_attrs.get("error", 0.0),
            )
        return [found[index] for index in sorted(found)]

    def _point(self, stored: "FrozenTrial") -> Point:
        values = {one.name: one.values for one in self._sweep.space.dimensions}
        return {name: values[name].from_optuna(value) for name, value in stored.params.items()}

    def given_up(self, index: int) -> Point | None:
        """Return the values of a trial that a lost machine has begun; None if there is none."""
        for one in self._storage.get_all_trials(self._id, deepcopy=False):
            if one.user_attrs.get("index") == index and _is_given_up(one):
                return self._point(one)
        return None

    def give_up_lost(self) -> None:
        """Give up the trials of machines that have shown no sign of life for a while."""
        from optuna import load_study
        from optuna.storages import fail_stale_trials

        with warnings.catch_warnings(action="ignore"):  # it is called experimental
            fail_stale_trials(load_study(study_name=self._sweep.name, storage=self._storage))

    def owns(self, trial: Trial) -> bool:
        """Return whether this machine trains a trial."""
        return not self.is_shared or trial.worker == self.worker

    def begin(self, trial: Trial) -> None:
        """Show from now on that this machine trains a trial."""
        if self.is_shared:
            self._in_training.add(trial.id)
            self._storage.record_heartbeat(trial.id)  # type: ignore[attr-defined]

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Show while the block runs, from time to time, which trials this machine trains."""
        is_over = threading.Event()

        def beat() -> None:
            while not is_over.wait(HEARTBEAT_SECONDS):
                for trial_id in sorted(self._in_training):
                    with suppress(Exception):  # the training itself reports what is wrong
                        self._storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        if self.is_shared:
            thread.start()
        try:
            yield
        finally:
            is_over.set()

    def add(self, index: int, point: Point) -> Trial | None:
        """Store a trial and take it; return None if another machine has taken its number."""
        from optuna.trial import TrialState, create_trial

        template = create_trial(
            state=TrialState.WAITING,
            params=to_optuna(self._sweep, point),
            distributions=distributions(self._sweep, point),
            user_attrs={"index": index},
        )
        number = self._storage.create_new_trial(self._id, template)
        stored = next(one for one in self.trials() if one.index == index)
        if stored.id == number:
            return self.take(stored)
        self._storage.set_trial_state_values(number, TrialState.FAIL)
        return None

    def take(self, trial: Trial) -> Trial | None:
        """Take a trial that waits for a machine; return None if another one was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self.begin(trial)  # before it is taken: without a heartbeat, nobody would notice a lost machine
        with suppress(UpdateFinishedTrialError):
            if self._storage.set_trial_state_values(trial.id, TrialState.RUNNING):
                self._storage.set_trial_user_attr(trial.id, "worker", self.worker)
                return self._again(trial)
        self._in_training.discard(trial.id)
        return None

    def report(
        self,
        trial: Trial,
        epochs: int,
        scores: Sequence[float],
        curve: Mapping[int, float],
        error: float,
    ) -> Trial:
        """Store what a trial scored after a number of epochs; return the trial with it.

        Raises:
            TakenOver: another machine has given this one up.
        """
        every = {**trial.scores, epochs: list(scores)}
        with self._writing(trial):
            for epoch, value in curve.items():
                if epoch not in trial.curve:
                    self._storage.set_trial_intermediate_value(trial.id, epoch, value)
            self._storage.set_trial_user_attr(trial.id, "error", error)
            self._storage.set_trial_user_attr(
                trial.id, "scores", {str(number): values for number, values in every.items()}
            )
        return self._again(trial)

    def finish(self, trial: Trial, state: State, failure: str = "") -> Trial:
        """Store the final state of a trial; return the trial with it.

        Raises:
            TakenOver: another machine has given this one up.
        """
        from optuna.trial import TrialState

        name = next(optuna for optuna, own in _STATES.items() if own == state)
        values = None if state == "failed" else [trial.score()]
        with self._writing(trial):
            if failure:
                self._storage.set_trial_user_attr(trial.id, "failure", failure)
            self._storage.set_trial_state_values(trial.id, TrialState[name], values)
        self._in_training.discard(trial.id)
        return self._again(trial)

    @contextmanager
    def _writing(self, trial: Trial) -> Iterator[None]:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            yield
        except UpdateFinishedTrialError:
            self._in_training.discard(trial.id)
            raise TakenOver from None

    def _again(self, trial: Trial) -> Trial:
        return next(one for one in self.trials() if one.index == trial.index)


_STATES: dict[str, State] = {
    "WAITING": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


class TakenOver(Exception):
    """Another machine trains the trial now, because this one showed no sign of life."""


def _is_given_up(stored: "FrozenTrial") -> bool:
    """Return whether a trial was begun for nothing; one that failed says why."""
    return stored.state.name == "FAIL" and not stored.user_attrs.get("failure")


@contextmanager
def open_study(sweep: Sweep, folder: Path, origin: Mapping[str, Any]) -> Iterator[Study]:
    """Open the study of a sweep, or begin it. A second process cannot open it in this folder.

    Args:
        folder: of the sweep.
        origin: what all scores depend on, by name.

    Raises:
        UserError: Optuna is missing, the study is in use or was begun with another origin, or the
            database cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another `darkroom sweep` is running here; wait until it ends, or stop it"
        ) from None
    try:
        storage = open_storage(sweep, folder)
        with database_failures(sweep):
            study = Study(sweep, storage, _open(storage, sweep, folder, origin))
            with study.heartbeat():
                yield study
    finally:
        lock.release()


def _open(storage: "BaseStorage", sweep: Sweep, folder: Path, origin: Mapping[str, Any]) -> int:
    """Return the id of the study; begin it if it is new."""
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    try:
        study_id = storage.create_new_study([StudyDirection.MAXIMIZE], sweep.name)
    except DuplicatedStudyError:
        study_id = storage.get_study_id_from_name(sweep.name)
    known = storage.get_study_user_attrs(study_id).get("origin")
    if known is None:
        storage.set_study_user_attr(study_id, "origin", dict(origin))
        return study_id
    changes = [
        f"{name} ({shown(known.get(name))} -> {shown(value)})"
        for name, value in origin.items()
        if known.get(name) != value
    ]
    if changes:
        raise UserError(
            f"{folder} was begun with other values, so its trials could not be compared with new ones:"
            f" {', '.join(changes[:5])}; set another name in sweep.yaml, or remove the folder"
        )
    return study_id
