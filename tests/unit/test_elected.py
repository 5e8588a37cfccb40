"""Machines that log the same result at once keep one run, in whatever order MLflow gets their calls."""

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from effort import at_least
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from darkroom.tracking.journal.file import Journal
from darkroom.tracking.journal.trouble import Refused
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.mlflow.elected import (
    REJECTED,
    RESULT_TAG,
    elect_run,
    is_completed_elsewhere,
    written_once,
)
from darkroom.tracking.records import Params, Start

NUM_ORDERS = at_least(6, 60)


class Killed(BaseException):
    """The machine is lost before its next call."""


class Machine(threading.Thread):
    """Elects the run of a journal; makes each call to MLflow when it is its turn."""

    def __init__(
        self, client: MlflowClient, experiment: str, journal: Journal, dies_at: int = -1
    ) -> None:
        super().__init__()
        self._client, self._experiment, self._journal = client, experiment, journal
        self._calls_left = dies_at
        self.may_call, self.waits = threading.Semaphore(0), threading.Semaphore(0)
        self.kept = ""
        self.is_over = False

    def run(self) -> None:
        with suppress(Killed):
            self.kept = self.elect().info.run_id
        self.is_over = True
        self.waits.release()

    def elect(self) -> Any:
        return elect_run(self._client, self._experiment, self._journal, self.call, self.create)

    def create(self) -> Any:
        tags = {RESULT_TAG: self._journal.start().tags[RESULT_TAG]}
        return self.call(lambda: self._client.create_run(self._experiment, tags=tags))

    def call(self, action: Callable[[], Any]) -> Any:
        self.waits.release()
        self.may_call.acquire()
        self._calls_left -= 1
        if self._calls_left == -1:
            raise Killed
        try:
            return action()
        except MlflowException as error:
            raise Refused(f"{error}") from error


class Naive(Machine):
    """Looks for a run, and creates it if there is none."""

    def elect(self) -> Any:
        found = self.call(lambda: self._client.search_runs([self._experiment]))
        return found[0] if found else self.create()


def in_some_order(seed: int, *machines: Machine) -> None:
    """Lets the machines make one call at a time, in an order drawn from ``seed``."""
    draw = random.Random(seed)
    for machine in machines:
        machine.start()
        machine.waits.acquire()
    while alive := [machine for machine in machines if not machine.is_over]:
        machine = draw.choice(alive)
        machine.may_call.release()
        machine.waits.acquire()
    for machine in machines:
        machine.join()


@pytest.fixture(scope="module")
def client(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    folder = tmp_path_factory.mktemp("elected")
    return MlflowClient(f"sqlite:///{shutil.copy(empty_mlflow, folder)}")


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    return client.create_experiment(request.node.name)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    start = Start(
        stage="train",
        name="train",
        tags={RESULT_TAG: "5a" * 32},
        destination="d",
        address="a",
        timestamp_ms=1,
    )
    writer = create_journal(tmp_path, start)
    writer.append(Params(values={"train.optimizer": "adamw", "train.lr": "0.1"}))
    writer.close()
    yield writer.journal
    writer.journal.release()


@pytest.mark.parametrize("seed", range(NUM_ORDERS))
def test_one_run_is_kept(client: MlflowClient, experiment: str, journal: Journal, seed: int) -> None:
    machines = [Machine(client, experiment, journal) for _ in range(2 + seed % 2)]
    in_some_order(seed, *machines)
    [run] = client.search_runs([experiment])
    assert {machine.kept for machine in machines} == {run.info.run_id}
    assert run.data.params == {"train.lr": "0.1"}
    again = Machine(client, experiment, journal)
    in_some_order(0, again)
    assert again.kept == run.info.run_id


@pytest.mark.parametrize("seed", range(NUM_ORDERS))
def test_one_run_is_kept_if_a_machine_is_lost_between_two_calls(
    client: MlflowClient, experiment: str, journal: Journal, seed: int
) -> None:
    lost = Machine(client, experiment, journal, dies_at=seed % 6)
    other = Machine(client, experiment, journal)
    in_some_order(seed, lost, other)
    late = Machine(client, experiment, journal)  # finishes what both have left
    in_some_order(0, late)
    runs = client.search_runs([experiment])
    assert [run.info.run_id for run in runs if run.data.params.get("train.lr") == "0.1"] == [late.kept]
    assert len(runs) == 1
    assert other.kept == late.kept


def test_these_orders_would_show_a_second_run(client: MlflowClient, journal: Journal) -> None:
    counts = set()
    for seed in range(NUM_ORDERS):
        experiment = client.create_experiment(f"naive {seed}")
        in_some_order(seed, *(Naive(client, experiment, journal) for _ in range(2)))
        counts.add(len(client.search_runs([experiment])))
    assert counts == {1, 2}


def test_a_parameter_that_is_written_once_is_the_same_on_every_machine(journal: Journal) -> None:
    assert written_once(journal) == ("train.lr", "0.1")


def test_a_run_that_another_machine_ends_need_not_be_sent(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment)
    calls = []

    def call(action: Callable[[], Any]) -> Any:
        calls.append(action)
        if len(calls) == 2:
            client.set_terminated(run.info.run_id)
        return action()

    assert is_completed_elsewhere(client, run, call)
    assert len(calls) == 2


def test_a_run_that_does_not_change_is_completed_by_another_machine(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.tracking.mlflow.elected.STALLED_SECONDS", 0.1)
    run = client.create_run(experiment)
    assert not is_completed_elsewhere(client, run, lambda action: action())
    assert REJECTED not in run.data.params.values()
