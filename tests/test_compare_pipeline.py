"""`darkroom compare` on real trainings, for every kind of name."""

import json
from pathlib import Path
from typing import Any

import pytest
from effort import only_with_all
from project import MakeOnce, Project

pytestmark = [pytest.mark.slow, only_with_all]


def make(folder: Path) -> None:
    """The cnn (tag ``cnn``), an mlp of width 4 (experiment), and another seed (branch ``seed``)."""
    project = Project(folder / "project")
    project.set_params(export__formats=["onnx"], train__epochs=10)
    project.dvc("repro")
    project.commit("cnn")
    project.git("tag", "cnn")
    project.dvc("exp", "run", "--name", "narrow", "-S", "model.name=mlp", "-S", "model.width=4")
    project.git("checkout", "--quiet", "--force", "-b", "seed", "cnn")
    project.set_params(seed=1)
    project.dvc("repro", "--single-item", "train", "evaluate")  # on the same split
    project.commit("another seed")


@pytest.fixture(scope="module")
def project(make_once: MakeOnce) -> Project:
    return Project.at(make_once("compared", make) / "project")


def compared(project: Project, *names: str) -> dict[str, Any]:
    output = project.run("darkroom", "compare", *names, "--json")
    found: dict[str, Any] = json.loads(output[output.index("{\n") : output.rindex("}") + 1])
    return found


def test_cnn_is_better_than_a_narrow_mlp(project: Project) -> None:
    found = compared(project, "narrow", "cnn")
    assert (found["verdict"], found["n"]) == ("better", 359)
    assert compared(project, "cnn", "exp:narrow")["verdict"] == "worse"


def test_two_seeds_are_not_distinguishable(project: Project) -> None:
    found = compared(project, "cnn", "seed")
    assert (found["verdict"], found["n"]) == ("indistinguishable", 359)
    assert found["remarks"] == []
    assert compared(project, "cnn") == {**found, "second": "workspace"} | {
        "sentence": compared(project, "cnn")["sentence"]
    }


def test_runs_versions_and_the_champion(project: Project) -> None:
    project.run("darkroom", "promote", "1", "--why", "first")
    trace = json.loads(project.run("darkroom", "trace", "cnn", "--json"))
    [run_id] = {run["run_id"] for run in trace["trails"][0]["runs"] if run["tags"]["stage"] == "train"}
    for first in ("champion", "version:1", "models:/darkroom/1", run_id):
        found = compared(project, first, "version:2")
        assert found["verdict"] == "worse", first
        assert found["remarks"] == [], first
    output = project.run("darkroom", "promote", "2", "--why", "narrower", check=False)
    assert "is worse than" in output
    assert "--force" in output
    assert "2 is the champion now" in project.run("darkroom", "promote", "2", "--why", "x", "--force")


def test_the_page_has_pictures(project: Project) -> None:
    project.run("darkroom", "compare", "narrow", "cnn", "--html", "page.html")
    page = project.text("page.html")
    assert page.count("data:image/png") > 20
    assert "http" not in page
