"""The jobs' own commands, in order: local git and DVC remotes, and an API for comments on loopback."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from comments_api import TOKEN, CommentsApi, comments_api
from effort import only_with_all
from project import ROOT, Project, stages_run
from ruamel.yaml import YAML

from darkroom.ci.workflow import workflow

pytestmark = pytest.mark.slow

CHECKED_IN = ("Makefile", "profiles", "recipes", "requirements.lock", "tools")


class Jobs:
    """A project with remotes, and clones in which jobs run."""

    def __init__(self, folder: Path, api: CommentsApi, pristine: Project, mlflow: Path) -> None:
        self.folder, self.api = folder, api
        self.author = pristine.copy(folder / "author", "mlflow.db", "mljournal")
        shutil.copy(mlflow, folder / "mlflow.db")
        for name in CHECKED_IN:
            source, target = ROOT / name, self.author.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.author.git("init", "--quiet", "--bare", "--initial-branch=main", f"{folder / 'git'}")
        self.author.git("remote", "add", "origin", f"{folder / 'git'}")
        self.author.dvc("remote", "add", "--default", "local", f"{folder / 'dvc'}")
        self.author.dvc("push")
        self.push("results")

    def push(self, message: str) -> None:
        self.author.commit(message)
        self.author.git("push", "--quiet", "origin", "HEAD")

    def clone(self, name: str, branch: str) -> Project:
        folder = self.folder / name
        self.author.git("clone", "--quiet", "--branch", branch, f"{self.folder / 'git'}", f"{folder}")
        installed = folder / ".venv"  # as from the cache
        installed.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (installed / part).symlink_to(Path(sys.prefix) / part)
        (installed / ".ready").touch()
        return Project.at(folder)

    def run(self, project: Project, *steps: tuple[str, dict[str, str]]) -> list[tuple[int, str]]:
        """Runs scripts as a hosting does, until one fails; returns status and output of each."""
        done: list[tuple[int, str]] = []
        for script, env in steps:
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
            ended = subprocess.run(
                command,
                cwd=project.folder,
                env={**project.environ(MLFLOW_TRACKING_URI=self.mlflow), **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            done.append((ended.returncode, ended.stdout))
            if ended.returncode:
                break
        return done

    @property
    def mlflow(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def github(
        self, project: Project, job: str, shortened: tuple[str, str] = ("", ""), **env: str
    ) -> list[tuple[int, str]]:
        """Runs the steps of a job.

        Args:
            shortened: a part of a script, and what is run instead.
        """
        summary, path = self.folder / "summary.md", self.folder / "path"
        given = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.api.address,
            "GITHUB_BASE_REF": "",
            "GITHUB_PATH": f"{path}",
            "GITHUB_REPOSITORY": "me/mine",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_STEP_SUMMARY": f"{summary}",
            **env,
        }
        steps = YAML(typ="safe").load(workflow("github", (), False, True))["jobs"][job]["steps"]
        return self.run(
            project,
            *((s["run"].replace(*shortened), {**given, **filled(s)}) for s in steps if "run" in s),
        )

    def gitlab(
        self, project: Project, job: str, shortened: tuple[str, str] = ("", ""), **env: str
    ) -> list[tuple[int, str]]:
        """Runs the script of a job; see ``github``."""
        document = YAML(typ="safe").load(workflow("gitlab", ()))
        given = {
            "GITLAB_CI": "true",
            "CI_API_V4_URL": self.api.address,
            "CI_MERGE_REQUEST_IID": "3",
            "CI_MERGE_REQUEST_PROJECT_ID": "12",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "GITLAB_TOKEN": TOKEN,
            **env,
        }
        script = [*document["default"]["before_script"], *document[job]["script"]]
        return self.run(project, ("\n".join(script).replace(*shortened), given))


def filled(step: dict[str, Any]) -> dict[str, str]:
    """Returns the variables of a step, with the token of the job."""
    env = {
        name: value.replace("${{ github.token }}", TOKEN) for name, value in step.get("env", {}).items()
    }
    assert "${{" not in f"{env}"
    return env


def test_a_pull_request_from_plan_to_comment(
    tmp_path: Path, pristine: Project, empty_mlflow: Path
) -> None:
    with comments_api() as api:
        jobs = Jobs(tmp_path, api, pristine, empty_mlflow)
        jobs.author.git("checkout", "--quiet", "-b", "lr")
        jobs.author.set_params(train__lr=0.05, evaluate__gate={"min_f1_macro": 0.999})
        jobs.push("another rate")
        to_evaluate = "dvc repro --pull", "dvc repro --pull evaluate"  # an export takes ten seconds
        pull = {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_BASE_REF": "main"}

        # a gate that fails after the comment
        first = jobs.clone("first", "lr")
        done = jobs.github(first, "pipeline", to_evaluate, **pull)
        assert [status for status, _ in done] == [*[0] * 8, 1], done[-1]
        assert stages_run("".join(output for _, output in done)) == ["train", "evaluate"]
        [comment] = api.comments.values()
        for part in (
            "train.lr 0.1 -&gt; 0.05",
            "| macro F1 |",
            "origin/main",
            "❌ **The gate is not passed.**",
            "MLflow: run",
        ):
            assert part in comment, part
        assert "Not compared" not in comment
        assert (
            len(re.findall(r"!\[[^]]+\]\(https://github.com/me/mine/blob/darkroom-plots/", comment)) == 3
        )
        assert (tmp_path / "summary.md").read_text().count("**Plan:**") == 2
        assert (tmp_path / "path").read_text() == f"{first.folder}/.venv/bin\n"

        # the same commit on GitLab, on another machine: results come from the remote, except for
        # evaluate, whose metrics.json is in git; nothing is new
        api.comments.clear()
        [(status, output)] = jobs.gitlab(jobs.clone("gitlab", "lr"), "pipeline", to_evaluate)
        assert status == 1, output
        assert output.endswith("gate: not passed\n")
        assert stages_run(output) == ["evaluate"]
        [comment] = api.comments.values()
        assert "❌ **The gate is not passed.**" in comment
        assert comment.count("](/uploads/") == 3

        assert runs_of_trainings(jobs) == 1


def runs_of_trainings(jobs: Jobs) -> int:
    """Returns the number of runs of the training that two jobs had: one trained, one restored it."""
    trace = jobs.author.run(
        sys.executable,
        "-c",
        "from darkroom.tracking.ledger.known import read_all\n"
        "print(sum(run.stage == 'train' for run in read_all().runs))",
        MLFLOW_TRACKING_URI=jobs.mlflow,
    )
    return int(trace.split()[-1])


@only_with_all
def test_the_other_jobs(tmp_path: Path, pristine: Project, empty_mlflow: Path) -> None:
    with comments_api() as api:
        jobs = Jobs(tmp_path, api, pristine, empty_mlflow)
        fork = jobs.github(jobs.clone("fork", "main"), "fork")
        assert [status for status, _ in fork] == [0, 0], fork[-1]
        assert "no stage runs" in (tmp_path / "summary.md").read_text()

        smoke = jobs.clone("smoke", "main")
        done = jobs.github(smoke, "smoke", ("dvc repro", "dvc repro train"))
        assert [status for status, _ in done] == [0] * 3, done[-1]
        assert stages_run(done[-1][1])[0] == "train"
        assert smoke.text("reports/train/history.csv").count("\n") == 2  # heading, one epoch
        assert smoke.run("git", "status", "--porcelain", "src", "stages") == ""

        scheduled = jobs.clone("scheduled", "main")
        # `.ci/run` runs all stages again
        done = jobs.github(scheduled, "reproducible", ("--force", "--force --single-item fetch"))
        assert [status for status, _ in done] == [0] * 4, done[-1]
        assert "dvc.lock is unchanged" in done[-1][1]
        lock = scheduled.folder / "dvc.lock"
        lock.write_text(lock.read_text() + "# other bytes\n")
        assert jobs.run(scheduled, ("darkroom ci reproduced", {}))[0][0] == 1
        assert api.calls == []
