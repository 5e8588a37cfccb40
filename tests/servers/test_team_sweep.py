"""Two machines share the trials of a sweep in PostgreSQL; one is lost, and the other finishes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from project import Project
from team_server import DATABASE_PASSWORD, Database, database, needs_servers, until

pytestmark = [pytest.mark.slow, needs_servers]

COMMAND = ("setsid", "darkroom", "sweep")
NUM_TRIALS = 5
SWEEP = """\
sampler: random
trials: 5
space:
  train.lr: {low: 0.005, high: 0.5, log: true}
"""

OF_MACHINE = """SELECT trials.trial_id FROM trials JOIN trial_user_attributes attributes USING (trial_id)
WHERE trials.state = 'RUNNING' AND attributes.key = 'worker' AND attributes.value_json LIKE %s"""
AGED = "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour' WHERE trial_id = ANY(%s)"
COMPLETE = """SELECT attributes.value_json, count(*) FROM trials
JOIN trial_user_attributes attributes USING (trial_id)
WHERE trials.state = 'COMPLETE' AND attributes.key = 'index' GROUP BY 1"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Database]:
    with database() as running:
        yield running


@pytest.fixture
def machines(tmp_path: Path, pristine: Project, postgres: Database) -> list[Project]:
    """Two clones with a small network, whose sweeps share a database."""
    first = pristine.copy(tmp_path / "first", "mljournal", "mlflow.db", "mlartifacts")
    first.set_params(model__name="mlp", model__width=8, train__epochs=2)
    storage = postgres.uri.replace(f":{DATABASE_PASSWORD}", "")
    (first.folder / "sweep.yaml").write_text(f"storage: {storage}\n{SWEEP}")
    return [first, first.copy(tmp_path / "second")]


def in_training(postgres: Database, machine: Project) -> list[int]:
    with psycopg.connect(postgres.uri) as session:
        if session.execute("SELECT to_regclass('trial_user_attributes')").fetchone() == (None,):
            return []
        return [row[0] for row in session.execute(OF_MACHINE, [f'%{machine.folder}"'])]


def trials_of(machine: Project) -> list[dict[str, Any]]:
    return json.loads(machine.text("sweeps/sweep/sweep.json"))["trials"]


def test_a_machine_that_is_lost_loses_no_trial_and_none_is_trained_twice(
    machines: list[Project], postgres: Database
) -> None:
    first, second = machines
    env = {"PGPASSWORD": DATABASE_PASSWORD, "DARKROOM_TRACKING": "off"}
    wrong = first.run(*COMMAND, check=False, **{**env, "PGPASSWORD": "secret-that-is-wrong-31f7"})
    assert "cannot be opened" in wrong
    assert "password authentication failed" in wrong
    assert "secret-that" not in wrong

    with second.start(*COMMAND, **env) as running, first.start(*COMMAND, **env) as lost:
        taken = until("the first machine trains", lambda: in_training(postgres, first))
        os.killpg(lost.pid, signal.SIGKILL)
        with psycopg.connect(postgres.uri) as session:
            session.execute(AGED, [taken])
        output, _ = running.communicate()
    assert running.returncode == 0, output
    assert [one["state"] for one in trials_of(second)] == ["complete"] * NUM_TRIALS
    with psycopg.connect(postgres.uri) as session:
        assert dict(session.execute(COMPLETE)) == {f"{index}": 1 for index in range(NUM_TRIALS)}

    first.run(*COMMAND, **env)  # the lost machine returns, and has nothing to train
    assert trials_of(first) == trials_of(second)
    for machine in machines:
        for path in machine.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert DATABASE_PASSWORD.encode() not in content, path
    assert DATABASE_PASSWORD not in output
