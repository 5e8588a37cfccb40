"""A copy of this project in a folder of its own, with git, DVC and MLflow, run for real."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
COPIED = (
    "stages",
    "src",
    "models/weights",
    "own",
    "dvc.yaml",
    "params.yaml",
    "pyproject.toml",
    ".dvc/config",
    ".dvcignore",
    ".gitignore",
)

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


STAGES = """
import runpy, sys
for stage in sys.argv[1:]:
    runpy.run_path(f"stages/{stage}.py", run_name="__main__")
"""


class Project:
    """Runs commands in a copy of the project, against the copy's own code."""

    first_output = ""
    """What the first `dvc repro` printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in COPIED:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=ignore)
            else:
                shutil.copy(ROOT / name, target)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("start")

    @classmethod
    def at(cls, folder: Path) -> Self:
        """A project that is there already, as a clone."""
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def copy(self, folder: Path, *left_out: str) -> Self:
        """A copy without the files and folders whose names are ``left_out``."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
        return self.at(folder)

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Starts a command; its output is text, standard error within standard output."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # what runs in the background of a script, as these tests may, was told to ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def environ(self, **env: str) -> dict[str, str]:
        """The variables of its commands: no settings of whoever runs the tests, and ``env``."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DARKROOM_", "MLFLOW_", "DVC_", "GIT_", "PYTHON"))
        }
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "PYTHONHASHSEED": "random",
            **env,
        }

    def run(self, *command: str, check: bool = True, **env: str) -> str:
        """Runs a command to its end and returns its output."""
        with self.start(*command, **env) as process:
            output, _ = process.communicate()
        assert not check or process.returncode == 0, f"{command}:\n{output}"
        return output

    def dvc(self, *arguments: str, check: bool = True, **env: str) -> str:
        return self.run("dvc", *arguments, check=check, **env)

    def stages(self, *names: str, **env: str) -> str:
        """Runs the scripts of stages one after the other in one process, which imports torch once.

        For tests of what stages write: DVC takes no part, and nothing is logged.
        """
        return self.run("python", "-c", STAGES, *names, DARKROOM_TRACKING="off", **env)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        self.git(*author, "commit", "--quiet", "--message", message)

    def set_params(self, **values: object) -> None:
        """Sets ``train__lr=0.1`` and the like in params.yaml."""
        path = self.folder / "params.yaml"
        yaml = YAML()
        params = yaml.load(path)
        for name, value in values.items():
            *sections, key = name.split("__")
            section = params[sections[0]] if sections else params
            assert key in section, name
            section[key] = value
        yaml.dump(params, path)

    def text(self, path: str) -> str:
        return (self.folder / path).read_text()


def small_project(folder: Path) -> Project:
    """A copy of the project with a training of seconds."""
    project = Project(folder)
    project.set_params(model__width=8, train__epochs=3, train__lr=0.1, export__formats=["onnx"])
    project.commit("small")
    return project


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def documented(path: str) -> str:
    """Returns the guide's example of a Python file of one's own, such as ``own/train/tiny.py``."""
    guide = (ROOT / "docs/own-files.md").read_text(encoding="utf-8")
    found = re.search(rf"```python\n(# {re.escape(path)}\n.*?)```", guide, re.DOTALL)
    assert found is not None
    return found[1]


def file_states(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Returns mode, time of the last change, and digest of every file and folder in a folder."""
    return {
        f"{path.relative_to(folder)}": (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def stages_run(output: str) -> list[str]:
    """Returns the stages whose command DVC ran, from what it printed."""
    return re.findall(r"^Running stage '(.*)':$", output, flags=re.MULTILINE)
