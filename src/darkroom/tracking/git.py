"""The git repository around a project, read by the ``git`` command and never changed.

The command is used instead of ``scmrepo``, which DVC uses: ``scmrepo`` can neither list the commits that
changed a file nor name the branch of a commit, and two ways to ask git would be worse than one.
"""

import os
import subprocess
from pathlib import Path
from typing import Self

from darkroom.errors import UserError

TIMEOUT_SECONDS = 60

STATUS_SECONDS = 3
"""How long a stage waits for ``git status``, which takes longer in huge repositories."""

CI_BRANCHES = (
    "GITHUB_HEAD_REF",  # of a pull request; GITHUB_REF_NAME is then only its number
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",
    "BRANCH_NAME",
)
"""Variables in which CI systems, which check out a commit, name the branch: GitHub, GitLab, Jenkins."""

# In a hook, git sets these for its own repository; DVC, too, decides by the folder alone.
_NOT_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")

_SETTINGS = ("-c", "i18n.logOutputEncoding=UTF-8", "-c", "log.showSignature=false")


class Repository:
    """Reads commits, refs and files. Paths are relative to ``folder``, wherever it is in the tree."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        """The path of ``folder`` in the repository: empty, or ends with a ``/``."""

    @classmethod
    def around(cls, folder: Path) -> Self | None:
        """Return the repository that contains ``folder``, or None.

        Raises:
            UserError: git refuses the repository, for example because of its owner.
        """
        result = _git(folder, "rev-parse", "--show-prefix")
        if result is None:
            return None
        if result.returncode == 0:
            return cls(folder, os.fsdecode(result.stdout).removesuffix("\n"))
        if b"not a git repository" in result.stderr:
            return None
        raise UserError(f"{folder.absolute()}: {_first_line(result)}")

    def commit(self, rev: str) -> str | None:
        """Return the 40 hex digits of the commit that ``rev`` names, or None."""
        if not rev or rev.startswith("-"):  # git would take it for an option
            return None
        name = self._run("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
        return name.decode().strip() if name else None

    def file(self, rev: str, path: str, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of a committed file, or None if there is no such file.

        Args:
            max_bytes: read no more; of a larger file, return only the beginning.
        """
        name = f"{rev}:{self._from_top(path)}"
        if max_bytes is not None:
            size = self._run("cat-file", "-s", name)
            if size is None:
                return None
            if int(size) > max_bytes:
                return _beginning(self.folder, max_bytes, "cat-file", "blob", name)
        return self._run("cat-file", "blob", name)

    def files(self, rev: str, folder: str) -> list[str]:
        """Return the paths of all files in a committed folder, relative to that folder."""
        top = self._from_top(folder)
        output = self._run("ls-tree", "-r", "-z", "--name-only", "--full-tree", rev, f"{top}/") or b""
        return [os.fsdecode(name).removeprefix(f"{top}/") for name in output.split(b"\0") if name]

    def lines(self, *arguments: str) -> list[str]:
        """Return the lines that a git command prints.

        Raises:
            UserError: git fails, for example because an object is missing.
        """
        result = _git(self.folder, *arguments)
        if result is None or result.returncode != 0:
            raise UserError(f"git {arguments[0]}: {_first_line(result)}")
        return result.stdout.decode(errors="replace").split("\n")[:-1]  # not at every "\x1e" and such

    def _run(self, *arguments: str) -> bytes | None:
        result = _git(self.folder, *arguments)
        return result.stdout if result is not None and result.returncode == 0 else None

    def _from_top(self, path: str) -> str:
        return os.path.normpath(self.prefix + path)


def git_tags() -> dict[str, str]:
    """Return the tags of a run that starts here: MLflow's for the commit, ours for the rest.

    Unknown values are omitted: all without a git repository, the branch of a detached HEAD outside CI,
    and whether files are changed if git needs too long to tell.
    """
    commit = _quick("rev-parse", "HEAD")
    tags = {
        "mlflow.source.git.commit": commit,
        "git.branch": _branch() if commit else None,
        "git.dirty": _is_dirty() if commit else None,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
    }
    return {name: text for name, text in tags.items() if text}


def _branch() -> str | None:
    in_ci = [os.environ.get(variable) for variable in CI_BRANCHES]
    return _quick("symbolic-ref", "--quiet", "--short", "HEAD") or next(filter(None, in_ci), None)


def _is_dirty() -> str | None:
    changes = _quick("status", "--porcelain", "--untracked-files=no")
    return None if changes is None else f"{bool(changes)}".lower()


def _quick(*arguments: str) -> str | None:
    """Return what git prints about the working folder; None if it fails or is too slow."""
    try:
        result = _git(Path(), *arguments, timeout=STATUS_SECONDS)
    except UserError:
        return None
    if result is None or result.returncode != 0:
        return None
    return result.stdout.decode(errors="replace").strip()


def _git(
    folder: Path, *arguments: str, timeout: float | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    """Run git; return None if it is not installed.

    Args:
        timeout: in seconds; default: ``TIMEOUT_SECONDS``.

    Raises:
        UserError: git does not finish in time.
    """
    timeout = timeout or TIMEOUT_SECONDS
    command = ["git", *_SETTINGS, *arguments]
    try:
        return subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, timeout=timeout
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        raise UserError(f"git {arguments[0]}: no answer in {timeout} seconds") from None


def _beginning(folder: Path, num_bytes: int, *arguments: str) -> bytes:
    """Return the first bytes that git prints, and stop git."""
    with subprocess.Popen(
        ["git", *_SETTINGS, *arguments],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        content = process.stdout.read(num_bytes)
        process.kill()
    return content


def _environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    # without optional locks: a git that is stopped because it is slow would leave its lock behind
    return {**env, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _first_line(result: subprocess.CompletedProcess[bytes] | None) -> str:
    message = result.stderr.decode(errors="replace").strip() if result else "git is not installed"
    return message.splitlines()[0] if message else "failed without a message"
