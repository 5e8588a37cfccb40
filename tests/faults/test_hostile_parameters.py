"""Parameters that name paths: whatever they say, no file of others is touched and no shell sees them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from effort import ALL, at_least
from project import ROOT, Project
from ruamel.yaml import YAML
from warm import Ended, WarmPython

from darkroom.errors import UserError
from darkroom.params import load_params

OURS = (
    ".dvc",
    ".git",
    ".darkroom",
    "data/prepared",
    "data/fetched",
    "data/.gitignore",
    "reports",
    "models/model.safetensors",
    "models/.gitignore",
    "dvc.lock",
    "environment.json",
    "params.yaml",
    "mljournal",
    "mlflow.db",
    "mlartifacts",
)
"""What the pipeline and its tools may write."""

TOUCH = "touch ../outside/shell"

SETS: list[object] = [
    "mine",
    "prepared",
    "fetched",
    "../docs",
    "../prepared",
    "../../outside",
    "digits/../mine",
    "/etc",
    "",
    ".",
    "..",
    "~",
    "-h",
    "digits mine",
    "digits\nmine",
    "größe",
    "${seed}",
    f"digits; {TOUCH}",
    f"$({TOUCH})",
    f"`{TOUCH}`",
    f'"; {TOUCH}; "',
    f"digits' && {TOUCH} && '",
    "hf--..",
    "hf--..--..",
    "hf--../../outside",
    "hf--me--../mine",
    "file:own/fetch/../../data/mine/own.py:mine",
    "file:own/fetch/own.py:../mine",
    "file:own/fetch/linked.py:mine",
    f"file:own/fetch/own.py:mine; {TOUCH}",
    "x" * 300,
    None,
    3,
    ["mine"],
    {"mine": "mine"},
]
PATHS: list[object] = [
    "",
    ".",
    "..",
    "/",
    "~",
    "~/photographs",
    "data",
    "data/",
    "data/prepared",
    "data/prepared/train",
    "data/mine/../prepared",
    "data/linked",
    "models",
    "export",
    "reports",
    "reports/prepare",
    ".git",
    ".dvc",
    ".dvc/cache",
    ".darkroom",
    "mljournal",
    "mlflow.db",
    " data/mine",
    "data/mine\n",
    "data/mi\x1bne",
    "data/mi\x00ne",
    "s3://bucket/folder",
    "file:///etc",
    "remote://store/folder",
    "x" * 300,
    "a/" * 3000,
    "data/digits",
    "data/fetched/MNIST",
    None,
    3,
    True,
    ["data/mine"],
    {"data": "mine"},
    "a.pipe",
    "/dev/zero",
]
ODD_PATHS: list[object] = [
    "data/my own",
    'data/it\'s "mine"',
    "größe",
    "-rf",
    "*",
    "${seed}",
    "${nothing}",
    f"; {TOUCH}",
    f"$({TOUCH})",
    f"`{TOUCH}`",
    f"data/mine'; {TOUCH}; '",
    "../outside",
    "data/empty",
]
"""Names that a folder may have; here they lead to none, or to one without images."""
MANIFESTS: list[object] = [
    "../../../outside/secret.csv",
    "/etc/passwd",
    "..",
    ".",
    f"$({TOUCH})",
    f"; {TOUCH}",
    "x" * 300,
    "a\nb",
    "\x00",
]
WEIGHTS: list[object] = [
    "../outside/weights.pth",
    "data/mine/cat/0.png",
    "..",
    "~",
    "/dev/zero",
    f"$({TOUCH}).pth",
    f"; {TOUCH}",
    "models/weights/../../docs/notes.pth",
    "x" * 300 + ".pth",
    "a\nb.pth",
    "\x00.pth",
    "https://example.org/weights.pth",
]


IMPORTS = """
from darkroom.compute.determinism import configure_libraries
configure_libraries()
import dvc.cli, dvc.repo, dvc.repo.reproduce
import darkroom.preparation.ingest, darkroom.training.job
"""
STAGE = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
DVC = "import sys; from dvc.cli import main; sys.exit(main(sys.argv[1:]))"


def digests(folder: Path) -> dict[str, str]:
    """The contents of all files below ``folder`` but those that the pipeline writes."""
    found = {}
    for parent, folders, files in os.walk(folder):
        place = Path(parent).relative_to(folder)
        folders[:] = [
            name for name in folders if f"{place / name}" not in OURS and name != "__pycache__"
        ]
        found |= {f"{place / name}/": "" for name in folders}
        for name in files:
            path = Path(parent, name)
            if f"{place / name}" not in OURS:
                is_file = path.is_file() and not path.is_symlink()
                content = path.read_bytes() if is_file else os.fsencode(f"{path.lstat().st_mode}")
                found[f"{place / name}"] = hashlib.sha256(content).hexdigest()
    return found


class Home:
    """A project with its owner's own folders in it and beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project(folder / "project")
        self.text = self.project.text("params.yaml")
        root = self.project.folder
        for name in ("outside", "home", "project/docs", "project/data/mine/cat", "project/data/empty"):
            (folder / name).mkdir(parents=True)
            (folder / name / "notes.txt").write_text(f"my notes in {name}")
        (root / "docs/notes.pth").write_bytes(b"no weights")
        (root / "data/linked").symlink_to("prepared")
        (folder / "outside/secret.csv").write_text("path,label\n1.png,cat\n")
        (folder / "outside/weights.pth").write_bytes(b"no weights")
        os.mkfifo(root / "a.pipe")
        (root / "own/fetch/linked.py").symlink_to(folder / "outside/own.py")
        (folder / "outside/own.py").write_text("def mine(folder): (folder / '1.png').write_text('1')")
        self.project.commit("mine")
        (root / "data/mine/own.txt").write_text("not in git")
        self.environ = {"HOME": f"{folder / 'home'}", "DARKROOM_TRACKING": "off"}
        self.project.dvc("repro", "prepare", **self.environ)
        self.before = self.digests()
        environ = self.project.environ(**self.environ)
        self.python = WarmPython(IMPORTS, folder / "output.txt", environ)

    def digests(self) -> dict[str, str]:
        found = digests(self.project.folder)
        for name in ("outside", "home"):
            found |= {f"../{name}/{path}": md5 for path, md5 in digests(self.folder / name).items()}
        return found

    def set(self, name: str, value: object) -> None:
        (self.project.folder / "params.yaml").write_text(self.text)
        self.project.set_params(**{name: value})

    def run(self, code: str, *arguments: str) -> Ended:
        """Runs ``code``; ended after a minute, for one that reads a device or a pipe reads for ever."""
        return self.python.run(code, *arguments, cwd=self.project.folder, seconds=60)

    def assert_refused(self, ended: Ended) -> None:
        """It has ended by itself, with a message, and nothing is touched."""
        assert ended.status > 0, ended.output
        assert "Traceback" not in ended.output
        assert self.digests() == self.before


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("hostile"))
    yield home
    home.python.close()


def test_nothing_is_interpolated_into_commands_and_outputs() -> None:
    pipeline = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    for name, stage in pipeline["stages"].items():
        allowed = {"deps": ["${data.path}"]} if name == "prepare" else {}
        for key, value in stage.items():
            entries = value if isinstance(value, list) else [value]
            assert [e for e in entries if "${" in f"{e}"] == allowed.get(key, []), f"{name}.{key}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [*PATHS, *ODD_PATHS][:: at_least(3, 1)], ids=lambda path: repr(path)[:40]
)
def test_data_path(home: Home, path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one parameter that dvc.yaml interpolates."""
    home.set("data__path", path)
    if path not in ODD_PATHS:
        monkeypatch.chdir(home.project.folder)
        with pytest.raises(UserError, match=r"^params\.yaml:\d+: data\.path: .*\Z"):
            load_params(Path("params.yaml"))
    if path in ("a.pipe", "/dev/zero"):
        return  # dvc alone would read it for ever
    home.assert_refused(home.run(DVC, "repro", "prepare"))


VALUES = [
    *(("data__fetch", ["digits", item], "fetch") for item in SETS),
    *(("data__manifest", path, "prepare") for path in MANIFESTS),
    *(("model__weights", path, "train") for path in WEIGHTS),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "stage"), VALUES[:: at_least(3, 1)], ids=lambda part: repr(part)[:40]
)
def test_a_stage_refuses(home: Home, name: str, value: object, stage: str) -> None:
    home.set(name, value)
    ended = home.run(STAGE, f"stages/{stage}.py")
    home.assert_refused(ended)
    assert stage != "fetch" or "data.fetch" in ended.output


FOR_THE_SHELL = [
    ("data__path", f"data/mine'; {TOUCH}; '", "prepare"),
    *(entry for entry in VALUES if ALL or "$(touch" in f"{entry[1]}"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value", "stage"), FOR_THE_SHELL, ids=lambda part: repr(part)[:40])
def test_a_repro_from_a_shell_refuses(home: Home, name: str, value: object, stage: str) -> None:
    home.set(name, value)
    command = ("timeout", "60", "dvc", "repro", stage)
    with home.project.start(*command, **home.environ) as process:
        output, _ = process.communicate()
    home.assert_refused(Ended(process.returncode, output))
