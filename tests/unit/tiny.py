"""A pipeline with the stages, params and outputs of ours, whose commands take milliseconds."""

import io
import logging
import os
import shutil
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path, PurePosixPath

from dvc.cli import main as dvc_main
from project import Project

PIPELINE = """\
stages:
  fetch:
    cmd: mkdir -p data/fetched/digits && echo images of digits > data/fetched/digits/1.png
    params: [data.fetch]
    outs: [data/fetched]
  prepare:
    cmd: mkdir -p data/prepared && printf '{"digest":"d%s"}' $(cksum < ${data.path}/1.png | tr -d ' ')
      > data/prepared/dataset.json
    params: [data.path]
    deps: [data/fetched/digits]
    outs: [data/prepared/dataset.json]
  train:
    cmd: mkdir -p models reports/train/curves && grep lr params.yaml > models/model.safetensors &&
      echo loss > reports/train/history.csv && grep lr params.yaml > reports/train/curves/größe.csv
    params: [seed, train]
    deps: [data/prepared/dataset.json]
    outs: [models/model.safetensors, reports/train]
  evaluate:
    cmd: mkdir -p reports/evaluate/lists && echo 1 > reports/evaluate/lists/one &&
      sed s/lr/f1/ models/model.safetensors > reports/evaluate/metrics.json
    deps: [models/model.safetensors]
    outs:
      - reports/evaluate/lists:
          cache: false
    metrics:
      - reports/evaluate/metrics.json:
          cache: false
"""
PARAMS = """\
seed: 0
data:
  fetch: [digits]
  path: data/fetched/digits
train:
  lr: 0.1
  lr_factors: {head: 2}
  patience:
"""


RESTORED_OUTPUT = "restored.txt"
"""Beside the project of ``history``: what DVC printed of the experiment that it restored."""


class TinyProject(Project):
    """Runs DVC in this process: a new one would take a second to import it."""

    def dvc(self, *arguments: str, check: bool = True, **env: str) -> str:
        assert not env
        output = io.StringIO()
        logger = logging.getLogger("dvc")
        handlers = logger.handlers
        logger.handlers = [logging.StreamHandler(output)]
        try:
            with chdir(self.folder), redirect_stdout(output), redirect_stderr(output):
                status = dvc_main([*arguments])
        finally:
            logger.handlers = handlers
        assert not check or status == 0, f"dvc {arguments}:\n{output.getvalue()}"
        return output.getvalue()


def empty_repository(folder: Path) -> TinyProject:
    """A git repository without a commit."""
    folder.mkdir(parents=True, exist_ok=True)
    project = TinyProject.at(folder)
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("config", "user.name", "Ada")
    project.git("config", "user.email", "ada@example.org")
    return project


def tiny(folder: Path, dvc_folder: str = "", pipeline_folder: str = "") -> TinyProject:
    """The pipeline after `dvc repro` and a commit; its remote is ``store`` beside the repository.

    Args:
        dvc_folder: where `.dvc` lies in the git repository.
        pipeline_folder: where dvc.yaml lies in the git repository; the project returned is there.
    """
    empty_repository(folder)
    dvc = TinyProject.at(folder / dvc_folder)
    dvc.folder.mkdir(exist_ok=True)
    dvc.dvc("init", "--quiet", *(["--subdir"] if dvc_folder else []))
    levels = len(PurePosixPath(dvc_folder).parts) + 2
    (dvc.folder / ".dvc/config").write_text(
        "[core]\n    analytics = false\n    remote = store\n"
        f"['remote \"store\"']\n    url = {'../' * levels}store\n"
    )
    project = TinyProject.at(folder / pipeline_folder)
    project.folder.mkdir(exist_ok=True)
    (project.folder / "dvc.yaml").write_text(PIPELINE)
    (project.folder / "params.yaml").write_text(PARAMS)
    project.dvc("repro")
    project.commit("lr 0.1")
    return project


def set_lr(project: Project, lr: float) -> None:
    project.set_params(train__lr=lr)


def experiment(project: Project, name: str, *settings: str) -> str:
    """Runs an experiment, puts the workspace back, and returns what was printed."""
    sets = [part for setting in settings for part in ("--set-param", setting)]
    output = project.dvc("exp", "run", "--name", name, *sets)
    project.git("reset", "--quiet", "--hard")
    project.dvc("checkout", "--quiet")
    return output


def history(folder: Path) -> TinyProject:
    """Three commits, with learning rates 0.1, 0.2, 0.3, and three experiments upon the last."""
    project = tiny(folder)
    for lr in (0.2, 0.3):
        set_lr(project, lr)
        project.dvc("repro")
        project.commit(f"lr {lr}")
    experiment(project, "faster", "train.lr=0.4")
    experiment(project, "seeded", "seed=1", "train.lr=0.5")
    output = experiment(project, "restored", "train.lr=0.1")
    (folder.parent / RESTORED_OUTPUT).write_text(output)
    return project


def copied(project: Project, folder: Path) -> TinyProject:
    """A copy to change as one likes; its remote, too, is ``store`` beside it."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return TinyProject.at(folder)


def cache_file(project: Project, md5: str) -> Path:
    """Where DVC's cache holds a hash, made writable."""
    file = project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    os.chmod(file, 0o644)
    return file
