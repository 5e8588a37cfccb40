"""Real trainings, killed at random moments, end with the weights of one that nobody disturbed."""

import random
import select
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import kill
from pathlib import Path

import pytest
from effort import at_least
from toy import (
    ASKED,
    DONE,
    EPOCHS,
    EVALUATING,
    HANGING,
    NUM_STEPS,
    READY,
    SAVING,
    STEPPING,
    Child,
    Server,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of a training's result."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert server.start(folder).end() == 0, (folder / "log").read_text()
    return (folder / "hash").read_text()


@dataclass
class Kills:
    """What has been done to trainings."""

    random: random.Random
    longest_seconds: float
    """A training that is not killed takes about 0.4."""
    moments: Counter[str] = field(default_factory=Counter)
    """What was under way; two things, where a state was being written."""
    num_damaged: int = 0

    @property
    def total(self) -> int:
        return self.moments["all"]

    def has_met_all(self) -> bool:
        return all(self.moments[name] for name in ("start", "step", "evaluation", "save"))

    def train(self, server: Server, folder: Path, damage: float = 0.0) -> str:
        """Starts a training again and again until it ends, and returns the hash of its result.

        Args:
            damage: how probably a kill takes the newest state with it, as a loss of power may.
        """
        patience = self.longest_seconds
        while True:
            child = server.start(folder)
            if self.random.random() < 0.5:
                child.wait_for(
                    READY
                )  # else a busy machine would kill nearly all before their first step
            if not select.select([server.answers], [], [], self.random.uniform(0, patience))[0]:
                kill(child.pid, signal.SIGKILL)
            patience *= 1.05  # on a busy machine, too, a training ends at last
            status = child.end()
            if status == 0:
                return (folder / "hash").read_text()
            assert status == -signal.SIGKILL, (folder / "log").read_text()
            self._note(child)
            if self.random.random() < damage:
                self._damage_newest(folder / "states")

    def _note(self, child: Child) -> None:
        phases = child.phases()
        self.moments["all"] += 1
        for name, phase in (("step", STEPPING), ("evaluation", EVALUATING), ("save", SAVING)):
            self.moments[name] += phases[phase]
        self.moments["start"] += not phases[READY]

    def _damage_newest(self, states: Path) -> None:
        newest = max(states.glob("*-*.pt"), default=None)
        if newest is not None:
            content = newest.read_bytes()
            length = self.random.randrange(len(content))
            zeros = bytes(len(content) - length) if self.random.random() < 0.5 else b""
            newest.write_bytes(content[:length] + zeros)
            self.num_damaged += any(content[length:])


def test_a_killed_training_ends_as_if_it_had_not_been(
    server: Server, undisturbed: str, tmp_path: Path
) -> None:
    kills = Kills(random.Random(0), longest_seconds=0.2)
    num_trainings = 0
    while kills.total < 6 or not kills.num_damaged or not kills.moments["step"]:
        num_trainings += 1
        assert kills.train(server, tmp_path / f"{num_trainings}", damage=0.3) == undisturbed


def test_many_killed_trainings_end_as_if_they_had_not_been(
    server: Server, undisturbed: str, tmp_path: Path
) -> None:
    kills = Kills(random.Random(1), longest_seconds=0.4)
    least, num_killed_trainings = at_least(8, 200), 0
    for index in range(1000):
        before = kills.total
        assert kills.train(server, tmp_path / f"{index}", damage=0.3) == undisturbed
        num_killed_trainings += kills.total > before
        if num_killed_trainings >= least and kills.num_damaged > least // 10 and kills.has_met_all():
            break
    else:
        pytest.fail(f"{kills}")
    print(f"{kills.moments}, {kills.num_damaged} damaged")


def test_another_seed_gives_another_result(server: Server, undisturbed: str, tmp_path: Path) -> None:
    assert server.start(tmp_path, seed=1).end() == 0
    assert (tmp_path / "hash").read_text() != undisturbed


# signals that ask


def newest_position(folder: Path) -> int:
    """The steps of the newest state, as the toy counts them."""
    newest = max((folder / "states").glob("*-*.pt"))
    epoch, step, _ = newest.name.split("-")
    return int(epoch) * NUM_STEPS + int(step)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_asked_to_end_loses_at_most_a_step(
    signum: int, status: int, server: Server, undisturbed: str, tmp_path: Path
) -> None:
    moments = random.Random(2)
    num_asked = 0
    for number in range(20):  # a busy machine may ask too late
        folder = tmp_path / f"{number}"
        num_asked += ask_until_it_is_over(server, folder, signum, status, moments)
        assert (folder / "hash").read_text() == undisturbed
        if num_asked > 3:
            return
    pytest.fail(f"asked {num_asked} times only")


def ask_until_it_is_over(
    server: Server, folder: Path, signum: int, status: int, moments: random.Random
) -> int:
    """Ends a training now and then, starts it again, and returns how often it ended."""
    num_asked = done = 0
    while done < EPOCHS * NUM_STEPS:
        child = server.start(folder, interval=1e9)
        child.wait_for(READY)
        child.wait_for(DONE, min(done + moments.randrange(60), EPOCHS * NUM_STEPS - 1))
        kill(child.pid, signum)
        if (ended := child.end()) == 0:
            return num_asked  # the signal came too late
        assert ended == status, (folder / "log").read_text()
        num_asked += 1
        asked, done = (child.phases()[phase] for phase in (ASKED, DONE))
        assert asked <= done <= asked + 1 or done == EPOCHS * NUM_STEPS
        assert newest_position(folder) == done
    assert server.start(folder).end() == 0
    return num_asked


def test_a_second_signal_ends_a_step_that_takes_for_ever(
    server: Server, undisturbed: str, tmp_path: Path
) -> None:
    child = server.start(tmp_path, hang_at=20)
    child.wait_for(HANGING)
    before = newest_position(tmp_path)
    kill(child.pid, signal.SIGTERM)
    child.wait_for(ASKED)  # two signals that nobody has taken yet are one
    assert not select.select([server.answers], [], [], 0.1)[0]  # it waits for the step
    kill(child.pid, signal.SIGTERM)
    assert child.end() == 143
    assert 0 < before <= newest_position(tmp_path) <= 20
    assert server.start(tmp_path).end() == 0
    assert (tmp_path / "hash").read_text() == undisturbed


def test_a_step_that_takes_for_ever_is_given_up(
    server: Server, undisturbed: str, tmp_path: Path
) -> None:
    child = server.start(tmp_path, hang_at=20, grace=0.05)
    child.wait_for(HANGING)
    kill(child.pid, signal.SIGTERM)
    assert child.end() == 143
    assert 0 < newest_position(tmp_path) <= 20
    assert server.start(tmp_path).end() == 0
    assert (tmp_path / "hash").read_text() == undisturbed
