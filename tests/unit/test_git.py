"""What git says of a run's commit and branch, in CI and in huge repositories too."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from darkroom.tracking import git
from darkroom.tracking.git import CI_BRANCHES, git_tags


def run_git(*arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, outside CI."""
    for name in CI_BRANCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    run_git("init", "--quiet", "--initial-branch=trunk")
    (tmp_path / "a.txt").write_text("a")
    run_git("add", "a.txt")
    run_git("commit", "--quiet", "--message", "a")
    return tmp_path


def test_commit_branch_and_clean_state() -> None:
    commit = run_git("rev-parse", "HEAD")
    assert git_tags() == {
        "mlflow.source.git.commit": commit,
        "git.branch": "trunk",
        "git.dirty": "false",
    }


def test_a_change_of_a_tracked_file_is_dirty_and_a_new_file_is_not(repository: Path) -> None:
    (repository / "new.txt").write_text("new")
    assert git_tags()["git.dirty"] == "false"
    (repository / "a.txt").write_text("b")
    assert git_tags()["git.dirty"] == "true"


def test_a_detached_head_has_no_branch() -> None:
    run_git("checkout", "--quiet", "--detach")
    tags = git_tags()
    assert "git.branch" not in tags
    assert tags["git.dirty"] == "false"


@pytest.mark.parametrize("variable", CI_BRANCHES)
def test_a_detached_head_in_ci_is_on_the_branch_that_ci_names(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "feature")
    assert git_tags()["git.branch"] == "trunk"
    run_git("checkout", "--quiet", "--detach")
    assert git_tags()["git.branch"] == "feature"


def test_of_a_pull_request_it_is_the_branch_and_not_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    run_git("checkout", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_REF_NAME", "12/merge")
    monkeypatch.setenv("GITHUB_HEAD_REF", "feature")
    assert git_tags()["git.branch"] == "feature"
    monkeypatch.setenv("GITHUB_HEAD_REF", "")  # as GitHub sets it elsewhere
    assert git_tags()["git.branch"] == "12/merge"


def test_without_a_repository_there_is_only_the_experiment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("none"))
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    assert git_tags() == {}
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert git_tags() == {"dvc.experiment": "faster"}


def test_a_status_that_takes_too_long_is_left_out_and_leaves_no_lock(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = repository / ".git" / "slow"
    hook.write_text("#!/bin/sh\nsleep 20\n")
    hook.chmod(0o755)
    run_git("config", "core.fsmonitor", str(hook))  # git asks it at each status
    monkeypatch.setattr(git, "STATUS_SECONDS", 0.3)
    asked: list[dict[str, str]] = []
    run = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        asked.extend([options["env"]] if "status" in command else [])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    began = time.monotonic()
    tags = git_tags()
    assert time.monotonic() - began < 5
    assert "git.dirty" not in tags
    assert tags["git.branch"] == "trunk"
    [env] = asked
    assert env["GIT_OPTIONAL_LOCKS"] == "0"  # a git that is stopped would leave its lock behind
