"""The wheel: what is in it, and a project that is made and run where only the wheel is installed."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from project import ROOT, MakeOnce, Project, documented, stages_run

pytestmark = pytest.mark.slow

NOT_PACKED = ("__pycache__", ".egg-info")


def source_files() -> list[str]:
    """The files of the checkout, which may be no git repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so the project's files cannot be listed")
    return [
        path
        for path in listed.stdout.splitlines()
        if (ROOT / path).is_symlink() or (ROOT / path).is_file()
    ]


def build(folder: Path) -> None:
    """Builds the wheel from a copy of the tracked files, without a network."""
    source = folder / "source"
    for name in source_files():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    uv(
        *(
            "build",
            "--wheel",
            "--no-build-isolation",
            "--offline",
            "--quiet",
            "--python",
            sys.executable,
        ),
        *("--out-dir", f"{folder / 'dist'}", f"{source}"),
    )


def uv(*arguments: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "uv", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def wheel(make_once: MakeOnce) -> Path:
    return next((make_once("wheel", build) / "dist").glob("*.whl"))


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    expected: dict[str, bytes] = {}
    for name in source_files():
        path = ROOT / name
        if name.startswith("src/"):
            inner = (
                [file for file in path.rglob("*") if "__pycache__" not in file.parts]
                if path.is_dir()
                else [path]
            )
            for file in inner:
                expected[file.relative_to(ROOT / "src").as_posix()] = file.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert packed.keys() ^ expected.keys() == set()
    assert packed == expected
    assert "darkroom/shipped/recipes/probe.yaml" in packed
    assert packed["darkroom/shipped/pipeline.yaml"] == (ROOT / "dvc.yaml").read_bytes()


class Installed(Project):
    """A project beside an environment in which the wheel is installed."""

    def __init__(self, folder: Path, venv: Path) -> None:
        self.folder, self.venv = folder, venv

    def environ(self, **env: str) -> dict[str, str]:
        inherited = super().environ(**env)
        del inherited["PYTHONPATH"]
        return {**inherited, "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def environment(folder: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel, beside links to all other packages of this environment.

    The editable darkroom among them is not found: its .pth is left out.
    """
    uv("venv", "--quiet", "--offline", "--python", sys.executable, f"{folder}")
    python = f"{folder / 'bin/python'}"
    uv(
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-index",
        "--python",
        python,
        f"{wheel}",
    )
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    installed = {path.name for path in packages.iterdir()}
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name not in installed and path.suffix != ".pth" and "darkroom" not in path.name:
            (packages / path.name).symlink_to(path)
    (folder / "bin/dvc").write_text(f"#!{python}\nfrom dvc.cli import main\nraise SystemExit(main())\n")
    (folder / "bin/dvc").chmod(0o755)
    return packages / "darkroom"


def with_a_backbone_of_its_own(mine: Installed) -> None:
    """Trains the guide's example of a backbone, and edits it."""
    file = mine.folder / "own/train/tiny.py"
    file.write_text(documented("own/train/tiny.py"))
    mine.set_params(model__name="file:own/train/tiny.py:Tiny", model__depth=None)
    assert stages_run(mine.dvc("repro")) == ["train", "evaluate", "export"]
    assert "nothing to do" in mine.run("darkroom", "plan")
    lock = mine.text("dvc.lock")
    assert stages_run(mine.dvc("repro", "--force", "--single-item", "train")) == ["train"]
    assert mine.text("dvc.lock") == lock

    # the exported model needs no file, the checkpoint needs this one
    file.rename(mine.folder / "tiny.py")
    assert "dark" in mine.run("darkroom", "predict", "export", "data/mine/dark")
    (mine.folder / "tiny.py").rename(file)
    assert "nothing to do" in mine.run("darkroom", "plan")
    text = file.read_text()
    file.write_text(text.replace("return maps +", "return maps -"))
    refused = mine.run("python", "stages/export.py", check=False)
    assert "own/train/tiny.py is not the file that the model was trained with" in refused

    # an edit runs train again, and what follows it
    assert mine.dvc("status").split()[:5] == ["train:", "changed", "deps:", "modified:", "own/train"]
    planned = json.loads(mine.run("darkroom", "plan", "--json", check=False))["stages"]
    assert {one["stage"]: one["action"] for one in planned} == {
        **dict.fromkeys(("fetch", "prepare"), "unchanged"),
        **dict.fromkeys(("train", "evaluate", "export"), "run"),
    }
    assert planned[2]["reasons"] == ["own/train changed"]
    assert all(not one["reasons"] for one in planned[:2])


def test_a_project_from_the_wheel(tmp_path: Path, wheel: Path) -> None:
    package = environment(tmp_path / "venv", wheel)
    for number in range(60):
        path = tmp_path / "images" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 60).point(lambda value, n=number: value // 2 + 127 * (n % 2)).save(
            path
        )

    mine = Installed(tmp_path, tmp_path / "venv")
    assert f"{package}" in mine.run("python", "-c", "import darkroom; print(darkroom.__path__)")
    made = mine.run("darkroom", "init", "mine", "--images", "images")
    assert "60 files" in made
    mine = Installed(tmp_path / "mine", tmp_path / "venv")
    mine.set_params(model__width=8, train__epochs=2, export__formats=["onnx"])

    # the first result, and the same bytes again
    assert stages_run(mine.dvc("repro")) == ["fetch", "prepare", "train", "evaluate", "export"]
    lock = mine.text("dvc.lock")
    assert "stages/train.sha256" in lock
    assert "src/" not in lock
    assert len(stages_run(mine.dvc("repro", "--force"))) == 5
    assert mine.text("dvc.lock") == lock
    assert "nothing to do" in mine.run("darkroom", "plan")
    assert "all as recorded" in mine.run("darkroom", "verify")
    mine.commit("first result")
    assert "the same bytes" in mine.run("darkroom", "ci", "reproduced")
    assert "has everything" in mine.run("darkroom", "sync")

    copy = shutil.copytree(mine.folder, tmp_path / "own", symlinks=True)
    with_a_backbone_of_its_own(Installed(copy, tmp_path / "venv"))

    # another version: what it does not affect is as before, what it affects waits for an upgrade
    with (package / "tracking/run.py").open("a") as file:
        file.write("# an observer\n")
    assert "nothing to do" in mine.run("darkroom", "plan")
    with (package / "training/engine.py").open("a") as file:
        file.write("# another version\n")
    remark = " ".join(mine.run("darkroom", "plan").split())  # lines may be wrapped
    assert "differs from that recorded for train" in remark
    refused = mine.dvc("repro", "--force", "--single-item", "train", check=False)
    assert "stages/train.sha256 (training/engine.py); `darkroom init --upgrade`" in refused
    mine.git("checkout", "dvc.lock")
    mine.dvc("checkout")
    mine.run("darkroom", "init", "--upgrade", "--yes")
    status = mine.dvc("status", "train", "evaluate", "prepare")
    assert status.split() == ["train:", "changed", "deps:", "modified:", "stages/train.sha256"]
    planned = " ".join(mine.run("darkroom", "plan", check=False).split())
    assert "code changed: the installed darkroom" in planned
