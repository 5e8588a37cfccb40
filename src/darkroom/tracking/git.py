"""Which commit, branch and DVC experiment a run belongs to."""

import os
import subprocess

STATUS_SECONDS = 3
"""How long a stage waits to know whether something is changed; huge repositories take longer."""

CI_BRANCHES = (
    "GITHUB_HEAD_REF",  # of a pull request; GITHUB_REF_NAME is then only its number
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",
    "BRANCH_NAME",
)
"""Where CI systems, which check out a commit, name the branch: GitHub, GitLab, Jenkins."""


def git_tags() -> dict[str, str]:
    """Returns MLflow's tags for the commit, and ours for branch, dirty state and experiment.

    Left out is what is not known: all where there is no git repository, the branch of a detached HEAD
    outside CI, the dirty state where git takes too long to tell.
    """
    commit = _git("rev-parse", "HEAD")
    tags = {
        "mlflow.source.git.commit": commit,
        "git.branch": _branch() if commit else None,
        "git.dirty": _is_dirty() if commit else None,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
    }
    return {key: value for key, value in tags.items() if value}


def _branch() -> str | None:
    named = [os.environ.get(variable) for variable in CI_BRANCHES]
    return _git("symbolic-ref", "--quiet", "--short", "HEAD") or next(filter(None, named), None)


def _is_dirty() -> str | None:
    # without optional locks: git that is stopped for its slowness would leave its lock behind
    changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return None if changes is None else f"{bool(changes)}".lower()


def _git(*arguments: str) -> str | None:
    """Returns what git says; None where it fails, or is too slow."""
    try:
        result = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=STATUS_SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return result.stdout.strip()
