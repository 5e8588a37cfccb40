"""Servers that are down, full, slow or wrong: nothing is lost or doubled, and no stage waits for it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from effort import ALL, at_least
from mlflow import MlflowClient
from mlflow_server import Fault, MlflowServer, Proxy
from project import free_port
from stories import Story, assert_arrived, nothing_waits, points_of, run_of, write_story

from darkroom.runtime import load_runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.journal.file import JOURNALS, journals
from darkroom.tracking.journal.trouble import OutOfReach
from darkroom.tracking.mlflow.sender import Sender

pytestmark = pytest.mark.slow

ALL_FAULTS = ("error", "nonsense", "lost", "cut", "corrupt")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    server = MlflowServer(folder)
    server.start()
    MlflowClient(server.uri).create_experiment("darkroom")
    yield server
    server.kill()


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def address_of(root: Path, uri: str) -> Address:
    return Address.of(root, {"MLFLOW_TRACKING_URI": uri})


def send(root: Path, address: Address, num_tries: int = 500) -> tuple[int, list[str]]:
    """Sends until all has arrived; returns how often MLflow was out of reach, and the remarks."""
    remarks: list[str] = []
    sender = Sender(root, address, report=remarks.append)
    num_failed = 0
    for _ in range(num_tries):
        try:
            sender.send_all()
        except OutOfReach:
            num_failed += 1
        if not sender.pending():
            return num_failed, remarks
    pytest.fail(f"not sent in {num_tries} tries: {remarks}")


@contextmanager
def patiently() -> Iterator[None]:
    """For looking at what has arrived, which may take longer on a busy machine than sending may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        yield


@patiently()
def assert_all_arrived(root: Path, server: MlflowServer, stories: list[Story]) -> None:
    assert nothing_waits(root)
    for story in stories:
        assert_arrived(MlflowClient(server.uri), story, root)


def test_a_server_that_works_gets_everything_at_once(
    root: Path, server: MlflowServer, proxy: Proxy
) -> None:
    address = address_of(root, proxy.uri)
    story = write_story(root, address, num_points=1_500, has_model=True)
    assert send(root, address) == (0, [])
    assert_all_arrived(root, server, [story])


def test_random_faults_lose_double_and_damage_nothing(
    root: Path, server: MlflowServer, proxy: Proxy
) -> None:
    address = address_of(root, proxy.uri)
    stories = [
        write_story(root, address, num_points=20, num_files=5, has_model=i == 0) for i in range(3)
    ]
    chance = random.Random(0)
    proxy.fault = lambda method, path: chance.choice(ALL_FAULTS) if chance.random() < 0.2 else None
    num_failed, remarks = send(root, address)
    assert num_failed > 5
    assert remarks == []
    assert set(proxy.counts) == {None, *ALL_FAULTS}
    assert_all_arrived(root, server, stories)


@pytest.mark.parametrize("fault", ["lost", "cut", "nonsense"][: at_least(1, 3)])
def test_any_request_may_fail(fault: str, root: Path, server: MlflowServer, proxy: Proxy) -> None:
    address = address_of(root, proxy.uri)
    stories, hit, number = [], True, 0
    while hit:
        stories.append(write_story(root, address, num_points=2, num_files=1, has_model=number % 4 == 0))
        requests = iter(range(10_000))
        proxy.counts.clear()
        proxy.fault = lambda *_, n=requests, k=number: fault if next(n) == k else None  # type: ignore[misc]
        _, remarks = send(root, address)
        assert remarks == []
        hit = proxy.counts[fault] > 0
        number += 1 if ALL else 2
    print(f"{number} requests failed by {fault}")
    assert number > 15
    assert_all_arrived(root, server, stories)


def test_a_damaged_upload_is_sent_again(root: Path, server: MlflowServer, proxy: Proxy) -> None:
    address = address_of(root, proxy.uri)
    story = write_story(root, address, num_files=3)
    uploads = iter(range(10_000))

    def every_other(method: str, path: str) -> Fault:
        return "corrupt" if method == "PUT" and next(uploads) % 2 == 0 else None

    proxy.fault = every_other
    num_failed, _ = send(root, address)
    assert (num_failed, proxy.counts["corrupt"]) == (3, 3)
    assert_all_arrived(root, server, [story])


def test_a_damaged_upload_of_a_model_is_sent_again(
    root: Path, server: MlflowServer, proxy: Proxy
) -> None:
    address = address_of(root, proxy.uri)
    story = write_story(root, address, num_files=0, has_model=True)
    uploads = iter([True])
    proxy.fault = lambda method, path: (
        "corrupt" if "model.onnx" in path and method == "PUT" and next(uploads, False) else None
    )
    num_failed, _ = send(root, address)
    assert (num_failed, proxy.counts["corrupt"]) == (1, 1)
    assert_all_arrived(root, server, [story])


def test_a_full_disk_behind_the_server_loses_nothing(
    root: Path, server: MlflowServer, proxy: Proxy
) -> None:
    address = address_of(root, server.uri)
    stories = [write_story(root, address, num_points=500, has_model=True) for _ in range(2)]
    server.limit_files(1_000)
    sender = Sender(root, address)
    for _ in range(3):
        with pytest.raises(OutOfReach):
            sender.send_all()
    server.limit_files((server.folder / "server.db").stat().st_size)
    for _ in range(3):
        with pytest.raises(OutOfReach):
            sender.send_all()
    assert len(list(journals(root))) == 2
    server.limit_files()
    send(root, address)
    assert_all_arrived(root, server, stories)


def wait_until_sent(root: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not nothing_waits(root):
        assert time.monotonic() < deadline, (root / JOURNALS / "sender.log").read_text()
        time.sleep(0.1)


def say(num_points: int, pause: float = 0.0) -> tuple[str, float]:
    """Runs a stage that says something; returns its journal and the seconds that its words took."""
    seconds = 0.0
    with tracked("train", load_runtime()) as run:
        [*_, journal] = journals(Path.cwd())
        for step in range(num_points):
            began = time.monotonic()
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
            seconds += time.monotonic() - began
            time.sleep(pause)
        began = time.monotonic()
        Path("report.txt").write_text("report")
        run.log_artifacts(Path("report.txt"))
        run.resume(Path("memo"))
        seconds += time.monotonic() - began
    return journal.name, seconds


@patiently()
def assert_whole(client: MlflowClient, journal: str, num_points: int) -> None:
    run = run_of(client, journal)
    assert run.info.status == "FINISHED"
    assert sorted(step for *_, step in points_of(client, run)) == list(range(num_points))
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["report.txt"]


def test_a_server_that_is_down_costs_a_warning_and_the_next_stage_sends_all(
    root: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DARKROOM_MLFLOW_SECONDS", "60")
    began = time.monotonic()
    first, seconds = say(1_000)
    assert seconds < 1
    assert time.monotonic() - began < 25
    Path("memo").unlink()
    [warning] = capfd.readouterr().err.splitlines()
    assert "Connection refused" in warning
    assert "darkroom sync" in warning

    back = Proxy(server.port, port)
    second, _ = say(10)
    wait_until_sent(root)
    back.close()
    assert capfd.readouterr().err == ""
    assert_whole(MlflowClient(server.uri), first, 1_000)
    assert_whole(MlflowClient(server.uri), second, 10)


def test_a_server_that_hangs_blocks_nobody(
    root: Path,
    server: MlflowServer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("DARKROOM_MLFLOW_SECONDS", "15")  # a third of it without progress
    proxy.fault = lambda method, path: "hang"
    began = time.monotonic()
    journal, seconds = say(1_000)
    assert seconds < 1
    assert time.monotonic() - began < 12
    [warning] = capfd.readouterr().err.splitlines()
    assert "does not have this run yet" in warning
    proxy.work()
    wait_until_sent(root)  # by the same sender, which tries on
    assert_whole(MlflowClient(server.uri), journal, 1_000)


def test_slow_answers_are_waited_for(
    root: Path,
    server: MlflowServer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    proxy.fault = lambda method, path: "slow"
    journal, seconds = say(1_000)
    assert seconds < 1
    assert capfd.readouterr().err == ""
    assert proxy.counts["slow"] > 5
    assert_whole(MlflowClient(server.uri), journal, 1_000)


def test_a_server_killed_in_the_middle_gets_the_rest_when_it_is_back(
    root: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder := root / "server").mkdir()
    shutil.copy(empty_mlflow, folder / "server.db")
    server = MlflowServer(folder)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    client = MlflowClient(server.uri)
    with tracked("train", load_runtime()) as run:
        [journal] = journals(root)
        run.resume(Path("memo"))
        for step in range(600):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
            time.sleep(0.01)
        deadline = time.monotonic() + 90
        with patiently():
            while not client.search_runs(["0", "1"], "attributes.status = 'RUNNING'"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        server.kill()
        for step in range(600, 800):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
            time.sleep(0.03)
        server.start()
        Path("report.txt").write_text("report")
        run.log_artifacts(Path("report.txt"))
    wait_until_sent(root)
    assert len(capfd.readouterr().err.splitlines()) <= 1
    assert_whole(client, journal.name, 800)
    server.kill()


def test_the_server_that_mlflow_ships_takes_it_too(
    root: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    shutil.copy(empty_mlflow, root / "server.db")
    command = (
        "mlflow",
        "server",
        *("--host", "127.0.0.1", "--port", f"{port}", "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{root}/server.db"),
        *("--artifacts-destination", f"{root}/artifacts"),
    )
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, env=environ, start_new_session=True
        )
    try:
        address = address_of(root, f"http://127.0.0.1:{port}")
        story = write_story(root, address, num_points=1_500, has_model=True)
        sender = Sender(root, address)
        deadline = time.monotonic() + 90
        while sender.pending():
            assert time.monotonic() < deadline, (root / "server.log").read_text()
            try:
                sender.send_all()
            except OutOfReach:
                time.sleep(0.5)
        assert_arrived(MlflowClient(address.uri), story, root)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
