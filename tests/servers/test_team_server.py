"""Runs arrive whole at a team's server: PostgreSQL, a bucket, passwords, and all of them failing.

docs/server.md says how such a server is set up; here are its parts, on loopback.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import onnx
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from team_server import (
    BUCKET,
    PATIENCE_SECONDS,
    Database,
    ObjectStore,
    database,
    mlflow_server,
    needs_servers,
    until,
)

from darkroom.runtime import load_runtime
from darkroom.tracking.address import Address
from darkroom.tracking.destinations import tracked
from darkroom.tracking.journal.file import Journal
from darkroom.tracking.journal.receipts import Receipt
from darkroom.tracking.journal.trouble import Refused
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.mlflow.conflicts import again_on_conflict
from darkroom.tracking.mlflow.elected import RESULT_TAG, elect_run
from darkroom.tracking.mlflow.view import experiment_tags
from darkroom.tracking.records import Params, Start
from darkroom.tracking.run import Run

pytestmark = [pytest.mark.slow, needs_servers]

NUM_POINTS = 2_000
BIG_BYTES = 20_000_000
ADMIN, PASSWORD, WRONG_PASSWORD = "admin", "secret-of-the-team-52d0", "secret-that-is-wrong-08b6"


@dataclass(frozen=True)
class Team:
    """A server, where its artifacts lie in the bucket, and what its clients have in the environment."""

    uri: str
    prefix: str
    bucket: ObjectStore
    env: dict[str, str] = field(default_factory=dict)

    def run(self, experiment: str) -> MlflowRun:
        """Returns the one run of an experiment."""
        [run] = self.runs(experiment)
        return run

    def runs(self, experiment: str) -> list[MlflowRun]:
        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []

    def points(self, run: MlflowRun, name: str) -> list[tuple[int, float]]:
        history = MlflowClient(self.uri).get_metric_history(run.info.run_id, name)
        return sorted((point.step, point.value) for point in history)

    def digests(self, run: MlflowRun) -> dict[str, str]:
        """Returns the SHA-256 of the run's artifacts, read from the bucket without MLflow."""
        place = f"{self.prefix}/{run.info.experiment_id}/{run.info.run_id}/artifacts/"
        return {key: digest(content) for key, content in self.bucket.objects(place).items()}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Database]:
    with database() as running:
        yield running


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    running = ObjectStore()
    yield running
    running.close()


@pytest.fixture(scope="module")
def proxied(
    postgres: Database, bucket: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """A server that passes artifacts on, and alone knows the bucket's key."""
    with mlflow_server(
        tmp_path_factory.mktemp("server") / "proxied",
        *("--backend-store-uri", postgres.uri),
        *("--artifacts-destination", f"s3://{BUCKET}/proxied"),
        **bucket.env,
    ) as uri:
        yield Team(uri, "proxied", bucket)


@pytest.fixture(scope="module")
def direct(
    postgres: Database, bucket: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """A server with passwords; artifacts go from the clients to the bucket."""
    with mlflow_server(
        tmp_path_factory.mktemp("server") / "direct",
        *("--backend-store-uri", postgres.uri),
        *("--no-serve-artifacts", "--default-artifact-root", f"s3://{BUCKET}/direct"),
        *("--app-name", "basic-auth"),
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        MLFLOW_FLASK_SERVER_SECRET_KEY="secret-of-the-forms",
    ) as uri:
        credentials = {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        yield Team(uri, "direct", bucket, {**credentials, **bucket.env})


@pytest.fixture(params=["proxied", "direct"])
def team(request: pytest.FixtureRequest) -> Team:
    return request.getfixturevalue(request.param)


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Enter":
    return Enter(monkeypatch, tmp_path)


class Enter:
    """Makes this process a client of a server, in a project of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch, self._folder = monkeypatch, folder

    def __call__(self, team: Team, experiment: str, **env: str) -> None:
        for name in os.environ:
            if name.startswith(("MLFLOW_", "AWS_", "DVC_")):
                self._monkeypatch.delenv(name)
        self._monkeypatch.chdir(self._folder)
        # no credentials of the person who runs the tests
        told = {"HOME": f"{self._folder}", "MLFLOW_TRACKING_URI": team.uri}
        for name, value in {**told, "MLFLOW_EXPERIMENT_NAME": experiment, **team.env, **env}.items():
            self._monkeypatch.setenv(name, value)


def write_files(seed: int, num_bytes: int) -> dict[str, str]:
    """Writes a report, a big file and an ONNX model; returns the digests of those that are artifacts."""
    contents = {
        "reports/report.html": b"<p>\xc3\xa4",
        "big.bin": random.Random(seed).randbytes(num_bytes),
    }
    for name, content in contents.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    shape = ["N", 2]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["logits"])],
        "identity",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)],
    )
    onnx.save(onnx.helper.make_model(graph), "model.onnx")
    return {name: digest(content) for name, content in contents.items()}


def points(steps: range) -> list[tuple[int, float]]:
    return [(step, 1 / (step + 1)) for step in steps]


def log_points(run: Run, steps: range) -> None:
    for step, value in points(steps):
        run.log_metrics({"train/loss": value}, step=step)


def waiting() -> list[str]:
    """Returns the journals that have not arrived as a whole; one that has may lie there for a while."""
    return [
        path.name
        for path in Path("mljournal").iterdir()
        if path.name[:1].isdigit() and not has_arrived(path)
    ]


def has_arrived(folder: Path) -> bool:
    journal = Journal(folder)
    receipt = Receipt.load(journal, Address.of(Path.cwd()).digest)
    return not folder.exists() or 0 < receipt.offset == journal.size


def everything_sent() -> bool:
    assert not Path("mljournal/refused").exists(), Path("mljournal/sender.log").read_text()
    return not waiting()


def assert_no_secrets(*secrets: str) -> None:
    for path in Path().rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in secrets if secret.encode() in content], path


def test_a_run_arrives_whole(team: Team, enter: Enter, capfd: pytest.CaptureFixture[str]) -> None:
    experiment = f"whole, {team.prefix}"
    enter(team, experiment)
    expected = write_files(seed=1, num_bytes=BIG_BYTES)
    with tracked("export", load_runtime()) as run:
        run.log_params({f"train.p{number:03}": number for number in range(150)})
        log_points(run, range(NUM_POINTS))
        run.log_artifacts(Path("reports"), Path("big.bin"))
        run.log_dataset("prepared", "d" * 64, Path("data/prepared"), {"classes": 2})
        run.log_onnx(
            Path("model.onnx"),
            "identity",
            params={},
            tags={},
            metrics={},
            dataset=("prepared", "d" * 36),
            step=0,
        )
        assert_no_secrets(PASSWORD, team.bucket.secret)
    assert capfd.readouterr().err == ""
    until("everything is sent", everything_sent)

    logged = team.run(experiment)
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {f"train.p{number:03}": f"{number}" for number in range(150)}
    assert team.points(logged, "train/loss") == points(range(NUM_POINTS))
    assert team.digests(logged) == expected
    assert [used.dataset.name for used in logged.inputs.dataset_inputs] == ["prepared"]
    experiment_id = logged.info.experiment_id
    [model] = MlflowClient(team.uri).search_logged_models([experiment_id])
    files = team.bucket.objects(f"{team.prefix}/{experiment_id}/models/{model.model_id}/artifacts/")
    assert digest(files["model.onnx"]) == digest(Path("model.onnx").read_bytes())
    assert_no_secrets(PASSWORD, team.bucket.secret)


def test_a_database_that_stops_and_starts_loses_and_doubles_nothing(
    proxied: Team, postgres: Database, enter: Enter
) -> None:
    enter(proxied, "database away")
    with tracked("train", load_runtime()) as run:
        run.resume(Path("memo"))
        for part in range(4):
            log_points(run, range(500 * part, 500 * (part + 1)))
            Path(f"part{part}.txt").write_text(f"{part}")
            run.log_artifacts(Path(f"part{part}.txt"))
            run.log_params({f"part{part}": part})
            match part:
                case 0:
                    until("the run is there", lambda: proxied.runs("database away"))
                    postgres.stop()
                case 1:
                    until("that is noticed", lambda: list(Path("mljournal").glob("trouble*")))
                    postgres.start()
                case _:  # in the middle of whatever it does, as if the plug was pulled
                    time.sleep(0.3 * part)
                    postgres.stop(signal.SIGQUIT)
                    postgres.start()
    until("everything is sent", everything_sent)
    logged = proxied.run("database away")
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {f"part{part}": f"{part}" for part in range(4)}
    assert proxied.points(logged, "train/loss") == points(range(2_000))
    assert proxied.digests(logged) == {f"part{p}.txt": digest(b"%d" % p) for p in range(4)}


def test_artifacts_wait_for_a_bucket_that_is_away(
    team: Team, enter: Enter, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = f"bucket away, {team.prefix}"
    enter(team, experiment)
    expected = write_files(seed=2, num_bytes=100_000)
    team.bucket.stop()
    try:
        with tracked("evaluate", load_runtime()) as run:
            run.log_artifacts(Path("reports"), Path("big.bin"))
            log_points(run, range(100))
        assert "does not have this run yet" in capfd.readouterr().err
        assert len(waiting()) == 1
        assert_no_secrets(PASSWORD, team.bucket.secret)
    finally:
        team.bucket.start()
    until("everything is sent", everything_sent)
    logged = team.run(experiment)
    assert (logged.info.status, team.points(logged, "train/loss")) == ("FINISHED", points(range(100)))
    assert team.digests(logged) == expected


def test_four_processes_at_once(proxied: Team, enter: Enter, tmp_path: Path) -> None:
    """Four projects, so four senders, and an experiment that none of them finds."""
    enter(proxied, "four at once")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from darkroom.runtime import load_runtime\n"
        "from darkroom.tracking.destinations import tracked\n"
        "Path('name.txt').write_text(sys.argv[1])\n"
        "with tracked('evaluate', load_runtime()) as run:\n"
        "    run.log_params({'name': sys.argv[1]})\n"
        "    for step in range(1_000):\n"
        "        run.log_metrics({'train/loss': 1 / (step + 1)}, step=step)\n"
        "    run.log_artifacts(Path('name.txt'))\n"
    )
    names = ["a", "b", "c", "d"]
    for name in names:
        (tmp_path / name).mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", program, name], cwd=tmp_path / name) for name in names
    ]
    assert [process.wait(120) for process in processes] == [0] * 4
    for name in names:
        os.chdir(tmp_path / name)
        until("everything is sent", everything_sent)
    runs = proxied.runs("four at once")
    assert sorted(run.data.params["name"] for run in runs) == names
    for run in runs:
        assert proxied.points(run, "train/loss") == points(range(1_000))
        assert proxied.digests(run) == {"name.txt": digest(run.data.params["name"].encode())}


@pytest.mark.parametrize("row", ["experiment", "tag"])
def test_a_row_that_another_process_adds_at_the_same_time(
    postgres: Database, proxied: Team, enter: Enter, row: str
) -> None:
    """The other one's transaction ends when the sender's, which did not see it, wants the same row."""
    experiment = f"added meanwhile: {row}"
    enter(proxied, experiment)
    [(key, value), *_] = experiment_tags().items()
    with psycopg.connect(postgres.uri) as other:
        if row == "experiment":
            other.execute(
                "insert into experiments (name, artifact_location, lifecycle_stage, workspace) "
                "values (%s, 'mlflow-artifacts:/raced', 'active', 'default')",
                [experiment],
            )
        else:
            made = MlflowClient(proxied.uri).create_experiment(experiment)
            other.execute("insert into experiment_tags values (%s, %s, %s)", [key, value, made])
        with tracked("evaluate", load_runtime()) as run:
            run.log_params({"a": 1})
            until("the sender waits for the other process", lambda: is_blocked(postgres))
            other.commit()
    until("everything is sent", everything_sent)
    assert proxied.run(experiment).data.params["a"] == "1"
    [found] = MlflowClient(proxied.uri).search_experiments(filter_string=f"name = '{experiment}'")
    assert experiment_tags().items() <= found.tags.items()


def is_blocked(postgres: Database) -> bool:
    waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')"
    with psycopg.connect(postgres.uri) as session:
        [blocked] = session.execute(waits).fetchone() or (False,)
    return bool(blocked)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "You are not authenticated"),
        ("AWS_SECRET_ACCESS_KEY", "signature we calculated does not match"),
    ],
)
def test_a_wrong_secret_is_named_and_what_was_said_waits_for_the_right_one(
    direct: Team, enter: Enter, name: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = f"wrong {name}"
    enter(direct, experiment, **{name: WRONG_PASSWORD})
    Path("a.txt").write_text("a")
    with tracked("evaluate", load_runtime()) as run:
        run.log_params({"a": 1, "remark": f"is {WRONG_PASSWORD}"})
        run.log_artifacts(Path("a.txt"))
    [said] = capfd.readouterr().err.splitlines()
    assert "does not have this run yet" in said
    assert reason in said
    assert len(waiting()) == 1
    assert_no_secrets(PASSWORD, WRONG_PASSWORD, direct.bucket.secret)

    enter(direct, experiment)  # the sender of the first stage is still at work, with the wrong one
    with tracked("evaluate", load_runtime()) as run:
        run.log_params({"a": 2})
    until("everything is sent", everything_sent, seconds=20)
    runs = sorted(direct.runs(experiment), key=lambda run: run.info.start_time)
    assert [run.data.params for run in runs] == [{"a": "1", "remark": "is ***"}, {"a": "2"}]
    assert direct.digests(runs[0]) == {"a.txt": digest(b"a")}
    assert_no_secrets(PASSWORD, WRONG_PASSWORD, direct.bucket.secret)


NUM_PAIRS = 6


def test_two_machines_that_restore_one_result_at_once_keep_one_run(
    proxied: Team, tmp_path: Path
) -> None:
    client = MlflowClient(proxied.uri)
    experiment = client.create_experiment("restored at once")
    for pair in range(NUM_PAIRS):
        tags = {RESULT_TAG: f"result {pair}"}
        start = Start(stage="train", name="train", tags=tags, destination="", address="", timestamp_ms=1)
        writer = create_journal(tmp_path, start)
        writer.append(Params(values={"train.lr": "0.1"}))
        both_have_looked = Barrier(2, timeout=PATIENCE_SECONDS)

        def elect(
            journal: Journal = writer.journal,
            tags: dict[str, str] = tags,
            meet: Barrier = both_have_looked,
        ) -> MlflowRun:
            def create() -> None:
                meet.wait()
                client.create_run(experiment, tags=tags)

            return elect_run(client, experiment, journal, once, create)

        with ThreadPoolExecutor(2) as pool:
            kept = [future.result() for future in (pool.submit(elect), pool.submit(elect))]
        writer.journal.release()
        [run] = client.search_runs([experiment], f"tags.`{RESULT_TAG}` = 'result {pair}'")
        assert {one.info.run_id for one in kept} == {run.info.run_id}
        assert run.data.params == {"train.lr": "0.1"}


def once(action: Callable[[], Any]) -> Any:
    """Calls MLflow as a delivery does."""
    try:
        return again_on_conflict(action)
    except MlflowException as error:
        if error.get_http_status_code() != 400:
            raise
        raise Refused(f"{error}") from error
