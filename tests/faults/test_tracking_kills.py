"""Senders and writers, killed anywhere: MLflow ends with the history of the journals, nothing twice."""

import os
import random
import select
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from effort import at_least
from mlflow import MlflowClient
from sending import __file__ as program
from stories import Story, assert_arrived, nothing_waits, points_of, run_of, write_story
from toy import DONE, READY, Child, Server

from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import journals
from darkroom.tracking.mlflow.sender import Sender

NUM_POINTS = 500
"""Of a run that is killed while it is written."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(program)
    yield server
    server.close()


@pytest.fixture
def root(empty_mlflow: Path, tmp_path: Path) -> Path:
    """A project."""
    shutil.copy(empty_mlflow, tmp_path)
    return tmp_path


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def send(root: Path) -> list[str]:
    """Sends all, and returns what there was to remark."""
    remarks: list[str] = []
    sender = Sender(root, Address.of(root, {}), report=remarks.append)
    while sender.pending():
        sender.send_all()
    return remarks


def crash_everywhere(server: Server, root: Path, story: Story, every: int) -> list[Story]:
    """Sends copies of ``story``, each by a sender that dies ``every`` moments later than the last."""
    aside = root / "aside"
    shutil.move(story.journal.folder, aside)
    sent: list[Story] = []
    while True:
        story.journal.folder.parent.mkdir(exist_ok=True)
        shutil.copytree(aside, story.journal.folder)
        copy = story.copy()
        shutil.rmtree(story.journal.folder)
        sent.append(copy)
        child = server.start(root, role="send", crash_at=every * len(sent))
        status = child.end()
        if status == 0:
            return sent
        assert status == -signal.SIGKILL, (root / "log").read_text()
        # some are finished by the next sender, others at the end
        if len(sent) % 2 and copy.journal.folder.exists():
            shutil.move(copy.journal.folder, root / f"later-{len(sent)}")


def assert_all_arrive(root: Path, stories: list[Story]) -> None:
    for waiting in root.glob("later-*"):
        shutil.move(waiting, stories[int(waiting.name.partition("-")[2]) - 1].journal.folder)
    assert send(root) == []
    assert nothing_waits(root)
    client = client_of(root)
    (downloads := root / "downloads").mkdir()
    for story in stories:
        assert_arrived(client, story, downloads)


@pytest.mark.slow
def test_a_sender_may_be_killed_before_and_after_everything_it_does(server: Server, root: Path) -> None:
    story = write_story(root, Address.of(root, {}), num_points=3, num_files=2, has_model=True)
    stories = crash_everywhere(server, root, story, every=2)  # after each: just before the next
    print(f"{len(stories) - 1} kills")
    assert len(stories) > 20
    assert_all_arrive(root, stories)


def kill_senders(server: Server, root: Path, num_kills: int, seed: int) -> list[Story]:
    """Kills senders at random moments; there is always something to send."""
    chance = random.Random(seed)
    address = Address.of(root, {})
    stories: list[Story] = []
    killed = 0
    while killed < num_kills:
        if len(list(journals(root))) < 3:
            stories += [
                write_story(
                    root, address, num_points=chance.choice([5, 1_200]), num_files=chance.randrange(4)
                )
                for _ in range(3)
            ]
        child = server.start(root, role="send")
        child.wait_for(READY)
        killed += kill_at_random(server, child, chance.uniform(0, 0.25)) != 0
    return stories


@pytest.mark.slow
def test_many_killed_senders_double_and_lose_nothing(server: Server, root: Path) -> None:
    stories = kill_senders(server, root, at_least(20, 200), seed=1)
    print(f"{len(stories)} runs, {sum(len(story.points) for story in stories)} points")
    assert_all_arrive(root, stories)


def kill_at_random(server: Server, child: Child, moment: float) -> int:
    """Kill a child after ``moment`` seconds and return its status."""
    if not select.select([server.answers], [], [], moment)[0]:
        os.kill(child.pid, signal.SIGKILL)
    status = child.end()
    assert status in (0, -signal.SIGKILL), (child.folder / "log").read_text()
    return status


def kill_writers(server: Server, root: Path, num_kills: int, seed: int) -> None:
    chance = random.Random(seed)
    taken: dict[str, tuple[int, int]] = {}
    while sum(status != 0 for status, _ in taken.values()) < num_kills:
        child = server.start(root, role="write", num_points=NUM_POINTS)
        child.wait_for(READY)
        status = kill_at_random(server, child, chance.uniform(0, 0.03))
        newest = max(journal.name for journal in journals(root))
        assert newest not in taken
        taken[newest] = status, child.phases()[DONE]
    # of a torn line a remark may be made
    assert all("damaged" in remark for remark in send(root))
    client = client_of(root)
    for name, (status, num_points) in taken.items():
        run = run_of(client, name)
        is_whole = run.info.status == "FINISHED"
        assert is_whole or run.info.status == "KILLED"
        assert is_whole if status == 0 else not is_whole or num_points == NUM_POINTS
        steps = [step for *_, step in points_of(client, run)]
        assert len(steps) == len(set(steps))
        assert len(steps) in (num_points, num_points + 1)
        assert ("error" in run.data.tags) != is_whole


@pytest.mark.slow
def test_what_killed_writers_were_told_has_arrived(server: Server, root: Path) -> None:
    kill_writers(server, root, at_least(8, 80), seed=1)


def kill_trainings(server: Server, root: Path, least: int, seed: int) -> int:
    """Kill at least the given number of trainings and senders; return how many trainings have ended."""
    chance = random.Random(seed)
    num_kills = num_trainings = 0
    while num_kills < least:
        num_trainings += 1
        status, patience = -1, 0.3
        while status != 0:
            training = server.start(root, role="train", num_points=NUM_POINTS)
            status = kill_at_random(server, training, chance.uniform(0, patience))
            patience *= 1.05  # on a busy machine, too, a training ends at last
            num_kills += status != 0
            if chance.random() < 0.3:
                sender = server.start(root, role="send")
                num_kills += kill_at_random(server, sender, chance.uniform(0, 0.2)) != 0
    send(root)
    client = client_of(root)
    [experiment] = client.search_experiments(filter_string="name = 'darkroom'")
    runs = client.search_runs([experiment.experiment_id])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert len(finished) >= num_trainings  # one may be killed when it is done
    assert all(run.info.status == "KILLED" for run in runs if run not in finished)
    for run in finished:
        points = points_of(client, run)
        assert sorted(step for _, _, _, step in points) == list(range(NUM_POINTS))
        assert all(value == 1 / (step + 1) for _, value, _, step in points)
        assert run.data.params == {"train.lr": "0.1"}
        assert run.data.tags["done"] == "yes"
        assert "error" not in run.data.tags
    for run in runs:
        if run not in finished:  # it was killed before it knew that it resumes, or after it was done
            assert len(points_of(client, run)) in (0, NUM_POINTS)
    return num_trainings


@pytest.mark.slow
def test_trainings_killed_again_and_again_are_one_run_each(server: Server, root: Path) -> None:
    num_trainings = kill_trainings(server, root, at_least(8, 80), seed=1)
    print(f"{num_trainings} trainings")
    assert num_trainings > 0
