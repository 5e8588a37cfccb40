"""Which commit, branch and DVC experiment a run belongs to."""

import os
import subprocess


def git_tags() -> dict[str, str]:
    """Returns MLflow's tags for the commit, and ours for branch, dirty state and experiment.

    Empty where there is no git repository.
    """
    commit = _git("rev-parse", "HEAD")
    tags = {
        "mlflow.source.git.commit": commit,
        "git.branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
        if commit
        else "",
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {key: value for key, value in tags.items() if value}


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
