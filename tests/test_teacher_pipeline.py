"""A small network that imitates a trained one, through the pipeline."""

from pathlib import Path

import pytest
from effort import only_with_all
from project import Project

from darkroom.digests import file_sha256
from darkroom.models.spec import load_spec

MODEL = "models/model.safetensors"
TEACHER = "models/weights/large.safetensors"


def trained(project: Project) -> bytes:
    project.stages("train")
    return (project.folder / MODEL).read_bytes()


@pytest.mark.slow
@only_with_all
def test_a_teacher_changes_the_weights_and_is_a_dep_of_train(pristine: Project, tmp_path: Path) -> None:
    project = pristine.copy(tmp_path / "project")
    teacher = project.folder / TEACHER
    teacher.write_bytes((project.folder / MODEL).read_bytes())
    project.set_params(model__width=4)
    alone = trained(project)
    project.set_params(train__teacher={"file": TEACHER, "weight": 0.9, "temperature": 4})
    taught = trained(project)
    assert taught == trained(project)
    assert taught != alone
    training = load_spec(project.folder / MODEL).training
    assert training["train.teacher.sha256"] == file_sha256(teacher)

    project.dvc("commit", "--force", "train")
    assert project.dvc("status", "train").endswith("up to date.\n")
    teacher.write_bytes(alone)  # a model of the same data and classes, of another width
    status = project.dvc("status", "prepare", "train")
    assert status.startswith("train:\n")
    assert "models/weights" in status
    assert "prepare:" not in status
    other = trained(project)
    assert other != taught
