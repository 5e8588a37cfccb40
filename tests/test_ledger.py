"""MLflow made complete from git and DVC, and everything found from anything, in a real history."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from effort import only_with_all
from mlflow import MlflowClient
from mlflow.entities import Run
from project import Project

pytestmark = [pytest.mark.slow, only_with_all]

RATES = (0.1, 0.05)
"""Of the two commits; the first is that of the small project."""
EXPERIMENTS = {"two": 2}
"""Names and numbers of epochs."""

TRACE = """
import sys
from darkroom.cli import main
for name in sys.argv[1:]:
    main(["trace", name, "--json"], standalone_mode=False)
    print("end of a trace")
"""

NUM_HITS = 50
"""Results that DVC takes from its cache."""


class Tracked(Project):
    """A project whose MLflow can be looked at."""

    def client(self) -> MlflowClient:
        """A client of the database as it is now: MLflow keeps one open, even when it is deleted."""
        copies = self.folder / "copies"
        copies.mkdir(exist_ok=True)
        copy = copies / f"{len(list(copies.iterdir()))}.db"
        with (
            closing(sqlite3.connect(self.folder / "mlflow.db")) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return MlflowClient(f"sqlite:///{copy}")

    def runs(self, stage: str) -> list[Run]:
        client = self.client()
        experiment = client.get_experiment_by_name("darkroom")
        return client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'")

    def table(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The comparison table of trainings: by experiment and rate parameters and metrics by step."""
        client = self.client()
        table = {}
        for run in self.runs("train"):
            assert run.info.status == "FINISHED"
            metrics = {
                name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
                for name in run.data.metrics
                if name != "train/epoch_seconds"  # a duration, which no output has
            }
            key = (run.data.tags.get("dvc.experiment", ""), run.data.params["train.lr"])
            assert key not in table, "logged twice"
            table[key] = {"params": run.data.params, "metrics": metrics}
        return table

    def sync(self, *options: str) -> str:
        return self.run("darkroom", "sync", *options)

    def forget_mlflow(self) -> None:
        (self.folder / "mlflow.db").unlink()
        shutil.rmtree(self.folder / "mlartifacts")

    def traces(self, *names: str) -> list[Any]:
        """What `darkroom trace --json` says of each name, in one process."""
        texts = self.run("python", "-c", TRACE, *names).split("end of a trace\n")
        return [json.loads(text) for text in texts[:-1]]


def versions_of(project: Tracked, run_id: str) -> list[str]:
    """Names the registered version that a run exported, by its number and by an alias."""
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    [version] = [v for v in client.search_model_versions("name = 'darkroom'") if v.run_id == run_id]
    client.set_registered_model_alias("darkroom", "looked-at", version.version)
    return [f"darkroom/{version.version}", "darkroom@looked-at"]


@pytest.fixture(scope="module")
def history(pristine: Project, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Two commits, and an experiment that began with the last."""
    project = Tracked.at(tmp_path_factory.mktemp("history") / "project")
    pristine.copy(project.folder)
    project.set_params(train__lr=RATES[1])
    project.dvc("repro")
    project.commit(f"rate {RATES[1]}")
    for name, epochs in EXPERIMENTS.items():
        project.dvc("exp", "run", "--name", name, "--set-param", f"train.epochs={epochs}")
    project.git("checkout", "--quiet", ".")
    project.dvc("checkout")
    return project


@pytest.fixture(scope="module")
def before(history: Tracked) -> dict[tuple[str, str], dict[str, Any]]:
    return history.table()


def test_what_was_logged_when_it_was_made_is_left_alone(history: Tracked) -> None:
    assert "has everything" in history.sync("--all-commits", "--all-experiments")
    assert len(history.table()) == len(RATES) + len(EXPERIMENTS)


def test_a_lost_mlflow_is_made_again_from_git_and_dvc(
    history: Tracked, before: dict[tuple[str, str], dict[str, Any]]
) -> None:
    assert len(before) == len(RATES) + len(EXPERIMENTS)
    assert all("test/f1_macro" in row["metrics"] for row in before.values())
    history.forget_mlflow()
    history.sync("--all-commits", "--all-experiments")
    assert history.table() == before
    assert all("restored" in run.data.tags for run in history.runs("train"))
    artifacts = history.client().list_artifacts(history.runs("train")[0].info.run_id, "reports")
    assert {item.path for item in artifacts} == {"reports/train", "reports/evaluate"}
    assert "has everything" in history.sync("--all-commits", "--all-experiments")


def test_without_options_only_the_results_at_hand_are_logged(history: Tracked) -> None:
    history.forget_mlflow()
    history.sync()
    assert list(history.table()) == [("", f"{RATES[-1]}")]


def test_a_clone_with_pulled_results_fills_an_empty_mlflow(
    history: Tracked, before: dict[tuple[str, str], dict[str, Any]], tmp_path: Path
) -> None:
    history.git("clone", "--quiet", ".", f"{tmp_path}/clone")
    clone = Tracked.at(tmp_path / "clone")
    output = clone.run("darkroom", "sync", check=False)
    assert "not in the folder, DVC's cache or git" in output
    clone.dvc("remote", "add", "--default", "origin", f"{history.folder}/.dvc/cache")
    clone.sync()
    key = ("", f"{RATES[-1]}")
    assert clone.table() == {key: before[key]}


def test_results_from_dvcs_cache_are_found_after_a_sync(history: Tracked) -> None:
    history.forget_mlflow()
    for i in range(NUM_HITS):
        history.set_params(train__lr=RATES[i % len(RATES)])
        output = history.dvc("repro", DARKROOM_TRACKING="off")
        assert "is cached - skipping run" in output or "didn't change" in output
        history.sync()
        [told] = history.traces("workspace")
        found = told["trails"][0]["runs"]
        assert {run["tags"]["stage"] for run in found} >= {"train", "evaluate", "export"}
    history.git("checkout", "--quiet", ".")
    history.dvc("checkout")
    assert len(history.table()) == len(RATES)


def test_an_experiment_that_came_from_the_cache_has_a_run_that_names_the_original(
    history: Tracked,
) -> None:
    history.sync("--all-experiments")
    history.dvc("exp", "run", "--name", "again", "--set-param", "train.epochs=2")
    history.git("checkout", "--quiet", ".")
    history.dvc("checkout")
    history.sync("--all-experiments")
    runs = {run.data.tags.get("dvc.experiment"): run for run in history.runs("train")}
    assert runs["again"].data.tags["restored.original"] == runs["two"].info.run_id
    assert runs["again"].data.params == runs["two"].data.params
    assert runs["again"].data.metrics["test/f1_macro"] == runs["two"].data.metrics["test/f1_macro"]
    history.dvc("exp", "remove", "again")


def test_everything_is_found_from_anything(history: Tracked, tmp_path: Path) -> None:
    history.sync("--all-commits", "--all-experiments")
    [run] = [run for run in history.runs("train") if run.data.tags.get("dvc.experiment") == "two"]
    [child] = [run for run in history.runs("evaluate") if run.data.tags.get("dvc.experiment") == "two"]
    history.dvc("exp", "apply", "two")
    posted = tmp_path / "from-a-letter.bin"
    shutil.copy(history.folder / "models/model.safetensors", posted)
    onnx = tmp_path / "another.onnx"
    shutil.copy(history.folder / "export/model.onnx", onnx)
    report = tmp_path / "report.html"
    shutil.copy(history.folder / "reports/evaluate/report.html", report)
    names = ["two", run.info.run_id, child.info.run_id, "train cnn two", "workspace"]
    names += [f"{posted}", f"{onnx}", f"{report}"]
    names += versions_of(history, run.info.run_id)
    trails = {name: told["trails"] for name, told in zip(names, history.traces(*names), strict=True)}
    history.git("checkout", "--quiet", ".")
    history.dvc("checkout")
    for name, found in trails.items():
        assert len(found) == 1, name
        [trail] = found
        assert run.info.run_id in {known["run_id"] for known in trail["runs"]}, name
        assert "two" in {revision["name"] for revision in trail["revisions"]}, name
        assert trail["model_sha256"] == run.data.tags["made.models/model.safetensors"], name
        assert trail["params"]["train.epochs"] == EXPERIMENTS["two"], name
        assert trail["metrics"]["test/f1_macro"] == run.data.metrics["test/f1_macro"], name
        assert trail["prepared_digest"], name
        assert trail["raw_md5"], name


def test_commits_lead_to_their_runs_and_data_lead_to_all_trainings(
    history: Tracked, tmp_path: Path
) -> None:
    history.sync("--all-commits", "--all-experiments")
    first = history.git("rev-parse", f"HEAD~{len(RATES) - 1}").strip()
    image = tmp_path / "found.png"
    shutil.copy(next((history.folder / "data/fetched/digits").rglob("*.png")), image)
    traced, found = history.traces(first, f"{image}")
    [trail] = traced["trails"]
    assert trail["params"]["train.lr"] == RATES[0]
    assert any("read by prepare" in place for place in found["places"])
    assert len(found["trails"]) == len(RATES) + len(EXPERIMENTS)


def test_what_is_known_nowhere_is_said_so(history: Tracked, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.bin"
    stranger.write_bytes(b"never seen")
    output = history.run("darkroom", "trace", f"{stranger}", check=False)
    assert "no dvc.lock of this repository, and no run, has these contents" in output
    output = history.run("darkroom", "trace", "nothing-like-it", check=False)
    assert "there is no file, run, experiment, git revision or registered model" in output
