"""Commands on a Ray cluster of two nodes do what they do on one machine, also if a node is lost."""

import json
import os
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
from project import Project, free_port
from ray_nodes import Nodes, dies, dies_once, mistake, slow, variables, where
from team_server import until

from darkroom import cluster as tested
from darkroom.cluster import Cluster, connected
from darkroom.errors import UserError
from darkroom.parallel import WorkerKilled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

SWEEP = """\
sampler: random
trials: 4
jobs: 2
space:
  train.lr: {low: 0.005, high: 0.5, log: true}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # whoever runs the tests may have a token
        running = Nodes(free_port())
        yield running
        running.close()


@pytest.fixture
def cluster(nodes: Nodes) -> Iterator[Cluster]:
    with connected(nodes.address, 1) as found:
        yield found


def test_results_come_in_order_from_processes_of_both_nodes(cluster: Cluster) -> None:
    results = list(cluster.map(where, range(12), 4))
    assert [number for number, _, _ in results] == list(range(12))
    assert len({node for _, node, _ in results}) == 2
    assert os.getpid() not in {process for _, _, process in results}


def test_no_more_is_consumed_than_asked_for_and_no_more_runs_at_once(cluster: Cluster) -> None:
    numbers = count()
    results = cluster.map(where, numbers, 2, most_pending=3)
    assert next(results)[0] == 0
    assert next(numbers) <= 3
    began = time.monotonic()
    assert len(list(cluster.map(slow, range(4), 1))) == 4
    assert time.monotonic() - began >= 4


def test_libraries_compute_with_the_same_settings_and_nothing_else_is_passed_on(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"MKL_CBWR": "COMPATIBLE", "DARKROOM_WORKERS": "3", "MLFLOW_TRACKING_PASSWORD": None}
    for name in asked:
        monkeypatch.setenv(name, asked[name] or "secret")
    with connected(nodes.address, 1) as cluster:
        assert dict(zip(asked, cluster.map(variables, asked, 1), strict=True)) == asked


def test_a_chunk_whose_process_dies_is_computed_again(cluster: Cluster, tmp_path: Path) -> None:
    assert list(cluster.map(dies_once, [tmp_path / "a", tmp_path / "b"], 2)) == ["a", "b"]
    with pytest.raises(WorkerKilled, match="was lost 4 times"):
        list(cluster.map(dies, range(2), 1))


def test_a_node_that_is_lost_costs_time_only(nodes: Nodes, cluster: Cluster) -> None:
    thread = threading.Timer(2.0, nodes.lose)
    thread.start()
    try:
        assert list(cluster.map(slow, range(16), 4)) == list(range(16))
    finally:
        thread.join()
        nodes.add()


def test_mistakes_are_told_as_on_this_machine(
    nodes: Nodes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^number 5 is a mistake$"):
        list(cluster.map(mistake, [5], 1))
    with monkeypatch.context() as patch:
        patch.setattr(tested, "_code_here", lambda: "another")
        with pytest.raises(UserError, match="has another version of darkroom; install the same"):
            list(cluster.map(slow, [1], 1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: Path("/nowhere"))
        with pytest.raises(UserError, match="/nowhere: No such file or directory; all nodes need"):
            list(cluster.map(slow, [1], 1))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "--ray 'nonsense': not an address; write HOST:PORT"),
        ("ray://127.0.0.1:10001", "not an address"),
        ("127.0.0.1:99999", "not an address"),
        ("127.0.0.1:1", "nothing answers there (Connection refused); start a cluster with `ray start"),
    ],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, message: str) -> None:
    with pytest.raises(UserError) as raised, connected(address, 1):
        pass
    assert message in f"{raised.value}"


def test_tasks_that_no_node_can_run_are_told(nodes: Nodes) -> None:
    with (
        pytest.raises(UserError, match="a task needs 64 CPUs, and no node has more than 2; set num_th"),
        connected(nodes.address, 64),
    ):
        pass


def test_a_sweep_has_the_trials_and_the_model_of_one_machine(
    nodes: Nodes, pristine: Project, tmp_path: Path
) -> None:
    left_out = ("mljournal", "mlflow.db", "mlartifacts")
    here = pristine.copy(tmp_path / "here", *left_out)
    here.set_params(model__name="mlp", model__width=8, train__epochs=2)
    (here.folder / "sweep.yaml").write_text(SWEEP)
    there = here.copy(tmp_path / "there")
    here.run("darkroom", "sweep", DARKROOM_TRACKING="off")
    there.run("darkroom", "sweep", "--ray", nodes.address, DARKROOM_TRACKING="off")
    for name in ("best.yaml", "model.safetensors"):
        of_both = [(one.folder / "sweeps/sweep" / name).read_bytes() for one in (here, there)]
        assert of_both[0] == of_both[1], name
    trials = [json.loads(one.text("sweeps/sweep/sweep.json"))["trials"] for one in (here, there)]
    scores = [[(trial["params"], trial["scores"]) for trial in of_one] for of_one in trials]
    assert scores[0] == scores[1]


def test_predictions_are_those_of_one_machine_and_resume(
    nodes: Nodes, pristine: Project, tmp_path: Path
) -> None:
    project = pristine.copy(tmp_path / "project", "mljournal", "mlflow.db", "mlartifacts")
    (project.folder / "data/broken.png").write_text("no image")
    images = ("data/fetched/digits", "data/broken.png")
    command = ("darkroom", "predict", "export", *images, "--abstain", "--out")
    said = project.run(*command, "here.csv", check=False)
    rows = project.folder / ".there.csv.unfinished/rows"
    with project.start(*command, "there.csv", "--ray", nodes.address) as first:
        until("rows are kept", lambda: rows.exists() and rows.read_bytes().count(b"\n") > 4)
        first.kill()
        first.communicate()
    again = project.run(*command, "there.csv", "--ray", nodes.address, check=False)
    assert project.text("there.csv") == project.text("here.csv")
    assert "data/broken.png: not classified" in said
    assert "data/broken.png: not classified" in again
    assert "there.csv: resumes after " in again
    options = ("--masks", "m", "--ray", "auto")
    refused = project.run("darkroom", "predict", "export", "data", *options, check=False)
    assert "rows and masks are predicted on this machine; use it without --ray" in refused
