"""The git repository around a project, read by git itself and never changed."""

import os
import subprocess
from pathlib import Path
from typing import Self

from darkroom.errors import UserError

TIMEOUT_SECONDS = 60

# In a hook git sets these for its own repository; DVC, too, goes by the folder alone.
_NOT_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")

_SETTINGS = ("-c", "i18n.logOutputEncoding=UTF-8", "-c", "log.showSignature=false")


class Repository:
    """Reads commits, refs and files. Paths are relative to ``folder``, wherever in the tree it is."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        """Where ``folder`` is in the repository: empty, or with a ``/`` at its end."""

    @classmethod
    def around(cls, folder: Path) -> Self | None:
        """Returns the repository that ``folder`` is in, or None.

        Raises:
            UserError: there is one that git refuses, as for its owner.
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
        """Returns the 40 hex digits of the commit that ``rev`` names, or None."""
        if not rev or rev.startswith("-"):  # git would take it for an option
            return None
        name = self._run("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
        return name.decode().strip() if name else None

    def is_shallow(self) -> bool:
        """Whether older commits were left behind when it was cloned."""
        return self.lines("rev-parse", "--is-shallow-repository") == ["true"]

    def file(self, rev: str, path: str, max_bytes: int | None = None) -> bytes | None:
        """Returns the bytes of a file as committed, or None where there is no such file.

        Args:
            max_bytes: of a larger file only the beginning is returned, and no more is read.
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
        """Returns the paths of all files below a committed folder, relative to that folder."""
        top = self._from_top(folder)
        output = self._run("ls-tree", "-r", "-z", "--name-only", "--full-tree", rev, f"{top}/") or b""
        return [os.fsdecode(name).removeprefix(f"{top}/") for name in output.split(b"\0") if name]

    def lines(self, *arguments: str) -> list[str]:
        """Returns what a git command prints, line by line.

        Raises:
            UserError: git fails, as for an object that is not there any more.
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


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    """Runs git; returns None where it is not installed.

    Raises:
        UserError: it does not come to an end.
    """
    try:
        return subprocess.run(
            ["git", *_SETTINGS, *arguments],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        raise UserError(f"git {arguments[0]}: no answer in {TIMEOUT_SECONDS} seconds") from None


def _beginning(folder: Path, num_bytes: int, *arguments: str) -> bytes:
    """Returns the first bytes of what git prints, and ends git."""
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
    return {**env, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _first_line(result: subprocess.CompletedProcess[bytes] | None) -> str:
    message = result.stderr.decode(errors="replace").strip() if result else "git is not there any more"
    return message.splitlines()[0] if message else "failed without a word"
