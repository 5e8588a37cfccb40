"""The plan of the real pipeline, compared with what `dvc repro` then runs, for kinds of change.

Stages run in children of a process that has imported torch and the like: a stage then takes a second.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from effort import ALL
from PIL import Image
from project import Project, file_states
from sklearn.datasets import load_digits
from warm import WarmPython

from darkroom.compute.determinism import INSTRUCTION_SET
from darkroom.planning.dvc_view import open_view
from darkroom.planning.environment import environment_remark
from darkroom.planning.plan import Plan, make_plan

pytestmark = pytest.mark.slow

NUM_IMAGES = 200

IMPORTS = """
import matplotlib.pyplot, numpy, onnx, onnxruntime, onnxscript, pandas, pyarrow.parquet
import sklearn.linear_model
import torch, torch.export, torch.onnx, torchvision
"""

RUN_STAGE = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
"""

SHIM = """#!/bin/sh
for script; do :; done
echo "$script" > {folder}/jobs
read -r status < {folder}/done
exit "$status"
"""
"""The `python` of dvc.yaml: has the script, its last argument, run by ``WarmStages``."""


class WarmStages:
    """Runs the stages whose scripts' names the shim writes to a pipe."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.ran: list[str] = []
        """The stages that ran."""
        self._folder, self._project = folder, project
        for name in ("jobs", "done"):
            os.mkfifo(folder / name)
        (folder / "python").write_text(SHIM.format(folder=folder))
        (folder / "python").chmod(0o755)
        settings = {**INSTRUCTION_SET, "GOMP_SPINCOUNT": "10000"}  # as configure_libraries sets them
        env = {**os.environ, **settings, "PYTHONPATH": f"{project / 'src'}"}
        self._python = WarmPython(IMPORTS, folder / "output.txt", env, cwd=project)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        (self._folder / "jobs").write_text("")
        self._python.close()

    def _serve(self) -> None:
        while script := (self._folder / "jobs").read_text().strip():
            self.ran.append(Path(script).stem)
            ended = self._python.run(RUN_STAGE, script, cwd=self._project)
            if ended.status:
                print(ended.output)
            (self._folder / "done").write_text(f"{ended.status}\n")


class Planned(Project):
    """A project of a few digits, whose plan is compared with what DVC does."""

    stages: WarmStages

    def reset(self) -> None:
        """Returns to the first results."""
        self.git("checkout", "--quiet", ".")
        self.git("clean", "-dfq", "src", "stages", "models/weights", "own")
        with Repo(".") as repo:
            repo.checkout(force=True)

    def plan(self) -> Plan:
        before = file_states(self.folder)
        with open_view() as view:
            plan = make_plan(view)
        assert file_states(self.folder) == before
        return plan

    def reproduce(self) -> str:
        """Returns a letter per stage: R, its command ran; c, it was restored; -, it is unchanged."""
        self.stages.ran.clear()
        with Repo(".") as repo:
            changed = [getattr(stage, "name", "") for stage in repo.reproduce()]
        ran = self.stages.ran
        names = ("fetch", "prepare", "train", "evaluate", "export")
        return "".join("R" if name in ran else "c" if name in changed else "-" for name in names)


def letters(plan: Plan) -> str:
    """Returns the same letters for a plan, and r for a stage that may also be unchanged or restored."""
    return "".join(
        "r" if not one.certain else {"run": "R", "cached": "c", "unchanged": "-"}[one.action]
        for one in plan.stages
    )


def fill(folder: Path) -> None:
    pixels, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(pixels[:NUM_IMAGES], labels, strict=False)):
        place = folder / f"{label}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15).astype("uint8")).save(place)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    project = Planned(tmp_path_factory.mktemp("planned") / "project")
    fill(project.folder / "data/mine")
    project.set_params(
        num_threads=1,
        data__fetch=[],
        data__path="data/mine",
        model__width=4,
        train__epochs=1,
        export__formats=["onnx"],
    )
    (project.folder / "requirements.lock").write_text("torch==2.15.0\n")
    shim = tmp_path_factory.mktemp("shim")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setenv("PATH", f"{shim}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("DARKROOM_TRACKING", "off")
        patch.setenv("DARKROOM_WORKERS", "1")
        project.stages = WarmStages(shim, project.folder)
        with Repo(".") as repo:
            repo.add("data/mine")
        assert project.reproduce() == "RRRRR"
        project.commit("results")
        yield project
        project.stages.close()


def edit(path: str) -> Callable[[Planned], None]:
    """Adds a comment to a file of code, which changes no output."""

    def change(project: Planned) -> None:
        with (project.folder / path).open("a") as file:
            file.write("# a comment\n")

    return change


def params(**values: object) -> Callable[[Planned], None]:
    return lambda project: project.set_params(**values)


def write(path: str, text: str) -> Callable[[Planned], object]:
    return lambda project: (project.folder / path).write_text(text)


def add_data(project: Planned) -> None:
    for name in ("1", "2"):
        Image.new("L", (8, 8), 100 + int(name)).save(project.folder / f"data/mine/3/new{name}.png")


def remove_data(project: Planned) -> None:
    next((project.folder / "data/mine/4").iterdir()).unlink()


def relabel(project: Planned) -> None:
    image = next((project.folder / "data/mine/5").iterdir())
    image.rename(project.folder / "data/mine/6" / image.name)


def add_weights(project: Planned) -> None:
    shutil.copy(project.folder / "models/model.safetensors", project.folder / "models/weights/own.pth")


def change_command(project: Planned) -> None:
    text = project.text("dvc.yaml")
    assert "python stages/export.py" in text
    write("dvc.yaml", text.replace("python stages/export.py", "python -B stages/export.py"))(project)


def remove_lock(project: Planned) -> None:
    (project.folder / "dvc.lock").unlink()


def damage_model(project: Planned) -> None:
    model = project.folder / "models/model.safetensors"
    model.unlink()  # it may be a link into DVC's cache
    model.write_bytes(b"damaged")


CHANGES: dict[str, tuple[Callable[[Planned], object], str, str]] = {
    "nothing": (lambda project: None, "-----", ""),
    "seed": (params(seed=1), "-Rrrr", "seed 0 -> 1"),
    "num_threads": (params(num_threads=2), "--Rrr", "num_threads 1 -> 2"),
    "data.fetch": (params(data__fetch=["digits"]), "R----", "data.fetch [] -> ['digits']"),
    "data, as prepare reads it": (
        params(data__merge_labels={"9": "8"}),
        "-Rrrr",
        "data.merge_labels {} -> {'9': '8'}",
    ),
    "prepare": (params(prepare__val_fraction=0.2), "-Rrrr", "prepare.val_fraction 0.15 -> 0.2"),
    "augment": (params(augment__rotate=5), "--Rrr", "augment.rotate 8 -> 5"),
    "model": (params(model__width=5), "--Rrr", "model.width 4 -> 5"),
    "train": (params(train__lr=0.2), "--Rrr", "train.lr 0.05 -> 0.2"),
    "evaluate": (params(evaluate__coverage=0.8), "---Rr", "evaluate.coverage 0.9 -> 0.8"),
    "export": (
        params(export__parity_tolerance=0.001),
        "----R",
        "export.parity_tolerance 0.0001 -> 0.001",
    ),
    "code of collection": (edit("src/darkroom/collection/sources.py"), "RRrrr", "collection/"),
    "code of decoding": (edit("src/darkroom/decoding/colour.py"), "-Rrrr", "decoding/"),
    "code of preparation": (edit("src/darkroom/preparation/splits.py"), "-Rrrr", "preparation/"),
    "code of dataset": (edit("src/darkroom/dataset/shards.py"), "-Rrrr", "dataset/"),
    "code of augment": (edit("src/darkroom/augment/mix.py"), "--Rrr", "augment/"),
    "code of models": (edit("src/darkroom/models/heads.py"), "--Rrr", "models/"),
    "code of training": (edit("src/darkroom/training/engine.py"), "--Rrr", "training/"),
    "code of metrics": (edit("src/darkroom/metrics/curves.py"), "---Rr", "metrics/"),
    "code of evaluation": (edit("src/darkroom/evaluation/tables.py"), "---Rr", "evaluation/"),
    "code of export": (edit("src/darkroom/export/parity.py"), "----R", "export/"),
    "code of a script": (edit("stages/evaluate.py"), "---Rr", "stages/evaluate.py"),
    "code of an observer": (edit("src/darkroom/tracking/run.py"), "-----", ""),
    "data added": (add_data, "-Rrrr", "data/mine: 2 files added in 3"),
    "data removed": (remove_data, "-Rrrr", "data/mine: 1 file removed"),
    "data relabelled": (relabel, "-Rrrr", "data/mine: 1 file moved (5/"),
    "a source of data": (write("own/fetch/own.py", "x = 1\n"), "R----", "own/fetch changed"),
    "weights": (add_weights, "--Rrr", "models/weights changed"),
    "the command of a stage": (change_command, "----R", "its command in dvc.yaml changed"),
    "an output": (damage_model, "--c--", "changed since it ran: models/model.safetensors"),
    "dvc.lock": (remove_lock, "Rcccc", "it has not run yet: dvc.lock has no entry for it"),
    "the lock file": (write("requirements.lock", "torch==2.16.0\n"), "-----", ""),
    "the environment": (write("environment.json", '{"torch": "1.0"}'), "-----", ""),
}


ALIKE = (
    "seed",
    "num_threads",
    "data, as prepare reads it",
    "augment",
    "model",
    "evaluate",
    "prepare",
    "data.fetch",
    "data added",
    "data removed",
    "data relabelled",
    "weights",
    "code of collection",
    "code of decoding",
    "code of dataset",
    "code of metrics",
    "code of a script",
    "code of augment",
    "code of models",
    "code of preparation",
    "code of export",
)
"""Kinds that take many seconds and are like others: only with ALL_TESTS=1."""


@pytest.mark.parametrize("kind", [kind for kind in CHANGES if ALL or kind not in ALIKE])
def test_the_plan_is_what_dvc_then_does(project: Planned, kind: str) -> None:
    change, expected, reason = CHANGES[kind]
    project.reset()
    change(project)
    plan = project.plan()
    assert letters(plan) == expected
    assert reason in "; ".join(line for one in plan.stages for line in one.reasons)
    done = project.reproduce()
    print(f"{kind}: planned {expected}, done {done}")
    assert all(letter in (happened, "r") for letter, happened in zip(expected, done, strict=True)), done
    assert letters(project.plan()) == "-----"


def test_a_parameter_that_is_set_back_is_found_in_the_cache(project: Planned) -> None:
    project.reset()
    project.set_params(export__parity_tolerance=0.002)
    project.reproduce()
    project.set_params(export__parity_tolerance=0.0001)
    assert letters(project.plan()) == "----c"
    assert project.reproduce() == "----c"


def test_another_environment_is_a_remark(project: Planned) -> None:
    project.reset()
    assert environment_remark(project.folder) == ""
    write("environment.json", '{"torch": "1.0", "python": "2.7", "cpu": "other"}')(project)
    remark = environment_remark(project.folder)
    assert "torch 1.0 -> " in remark
    assert "python 2.7 -> 3." in remark
    assert "cpu" not in remark
