"""Parameters that name paths: whatever they say, no file of others is touched and no shell sees them."""

import hashlib
import os
from pathlib import Path

import pytest
from project import ROOT, Project
from ruamel.yaml import YAML

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
        self.project.commit("mine")
        (root / "data/mine/own.txt").write_text("not in git")
        self.run("repro", "prepare")
        self.before = self.digests()

    def digests(self) -> dict[str, str]:
        found = digests(self.project.folder)
        for name in ("outside", "home"):
            found |= {f"../{name}/{path}": md5 for path, md5 in digests(self.folder / name).items()}
        return found

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs dvc; stopped after a minute, for it reads devices and pipes for ever."""
        environment = {"HOME": f"{self.folder / 'home'}", "DARKROOM_TRACKING": "off"}
        with self.project.start("timeout", "60", "dvc", *arguments, **environment) as process:
            output, _ = process.communicate()
        return process.returncode, output

    def set(self, name: str, value: object) -> None:
        (self.project.folder / "params.yaml").write_text(self.text)
        self.project.set_params(**{name: value})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("hostile"))


def test_nothing_is_interpolated_into_commands_and_outputs() -> None:
    pipeline = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    for name, stage in pipeline["stages"].items():
        allowed = {"deps": ["${data.path}"]} if name == "prepare" else {}
        for key, value in stage.items():
            entries = value if isinstance(value, list) else [value]
            assert [e for e in entries if "${" in f"{e}"] == allowed.get(key, []), f"{name}.{key}"


@pytest.mark.slow
@pytest.mark.parametrize("item", SETS, ids=repr)
def test_data_fetch(home: Home, item: object) -> None:
    home.set("data__fetch", ["digits", item])
    status, output = home.run("repro", "fetch")
    assert status != 0
    assert "data.fetch" in output
    assert "Traceback" not in output
    assert home.digests() == home.before


@pytest.mark.slow
@pytest.mark.parametrize("path", [*PATHS, *ODD_PATHS], ids=lambda path: repr(path)[:40])
def test_data_path(home: Home, path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    home.set("data__path", path)
    if path not in ODD_PATHS:
        monkeypatch.chdir(home.project.folder)
        with pytest.raises(UserError, match=r"^params\.yaml:\d+: data\.path: .*\Z"):
            load_params(Path("params.yaml"))
    if path in ("a.pipe", "/dev/zero"):
        return  # dvc alone would read it for ever
    status, output = home.run("repro", "prepare")
    assert status != 0
    assert "Traceback" not in output
    assert home.digests() == home.before


@pytest.mark.slow
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: repr(path)[:40])
def test_data_manifest(home: Home, path: object) -> None:
    home.set("data__manifest", path)
    status, output = home.run("repro", "prepare")
    assert status != 0
    assert "Traceback" not in output
    assert home.digests() == home.before


@pytest.mark.slow
@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: repr(path)[:40])
def test_model_weights(home: Home, path: object) -> None:
    home.set("model__weights", path)
    status, output = home.run("repro", "train")
    assert status != 0
    assert "Traceback" not in output
    assert home.digests() == home.before
