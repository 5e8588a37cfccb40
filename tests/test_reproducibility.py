"""The same inputs give the same bytes: again, elsewhere, unobserved; and other inputs do not."""

import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from effort import only_with_all
from project import Project, stages_run

pytestmark = pytest.mark.slow


def digest(folder: Path, *parts: str) -> str:
    """Hashes the files below ``parts``: names and bytes."""
    total = hashlib.sha256()
    for part in parts:
        path = folder / part
        for file in [path] if path.is_file() else sorted(path.rglob("[!.]*")):
            if file.is_file():
                total.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def copy_of(project: Project, folder: Path) -> Project:
    """A second project at another path with the first one's params and digits."""
    copy = Project(folder)
    shutil.copy(project.folder / "params.yaml", folder)
    shutil.copytree(project.folder / "data/fetched", folder / "data/fetched")
    return copy


def test_outputs_are_the_same_elsewhere_and_without_tracking(finished: Project, tmp_path: Path) -> None:
    copy = copy_of(finished, tmp_path / "another" / "path")
    copy.run("python", "stages/prepare.py", DARKROOM_TRACKING="off", DARKROOM_WORKERS="1")
    with copy.start("python", "stages/train.py", DARKROOM_TRACKING="off") as process:
        while not (copy.folder / "reports/train/summary.txt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.kill()  # the weights are kept, and what is computed of them is not yet written
        process.communicate()
    assert not (copy.folder / "models/model.safetensors").exists()
    copy.run("python", "stages/train.py", DARKROOM_TRACKING="off", DARKROOM_WORKERS="1")
    assert not (copy.folder / "mlflow.db").exists()
    for part in ("data/prepared", "models", "reports/prepare", "reports/train", "environment.json"):
        assert digest(copy.folder, part) == digest(finished.folder, part), part
    copy.set_params(seed=1)
    copy.run("python", "stages/train.py", DARKROOM_TRACKING="off")
    assert digest(copy.folder, "models") != digest(finished.folder, "models")


@only_with_all
def test_outputs_are_the_same_with_tensorboard(finished: Project, tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    copy = copy_of(finished, tmp_path)
    shutil.copytree(finished.folder / "data/prepared", tmp_path / "data/prepared")
    packages = Path(tensorboard.__file__).parent.parent
    for stage in ("train", "evaluate"):
        output = copy.run(
            "python",
            f"stages/{stage}.py",
            DARKROOM_TRACKING="off",
            DARKROOM_TENSORBOARD="runs",
            PYTHONPATH=f"{tmp_path / 'src'}{os.pathsep}{packages}",
        )
        assert "TensorBoard" not in output  # nothing failed
        assert list(tmp_path.glob(f"runs/{stage}-*/events.out.tfevents.*"))
    for part in ("models", "reports/train", "reports/evaluate", "environment.json"):
        assert digest(copy.folder, part) == digest(finished.folder, part), part
    assert not list(finished.folder.rglob("events.out.tfevents.*"))


READ = {
    "params.yaml": ("epochs: 12", "epochs: 13"),
    "src/darkroom/training/engine.py": ('"""The training loop:', '"""The loop:'),
}
NOT_READ = {"src/darkroom/cli.py": ('"""The command', '"""A command')}


@only_with_all
@pytest.mark.parametrize(
    "edits",
    [READ, NOT_READ],
    ids=["read by train", "not read by train"],
)
def test_an_edit_during_a_run_is_not_recorded(
    finished: Project, tmp_path: Path, edits: dict[str, tuple[str, str]]
) -> None:
    copy = copy_of(finished, tmp_path)
    copy.set_params(train__epochs=12)
    shutil.copytree(finished.folder / "data/prepared", tmp_path / "data/prepared")
    with copy.start("python", "stages/train.py", DARKROOM_TRACKING="off") as process:
        while not (tmp_path / "models/model.safetensors").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # after the first epoch of twelve
        for edited, (old, new) in edits.items():
            assert old in copy.text(edited)
            (tmp_path / edited).write_text(copy.text(edited).replace(old, new))
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()
    if edits is NOT_READ:
        assert process.returncode == 0, output
    else:
        assert process.returncode == 1
        assert f"train: {', '.join(READ)} edited while train ran" in output
        assert "Traceback" not in output


def test_a_clone_elsewhere_leaves_the_lock_as_it_is(pristine: Project, tmp_path: Path) -> None:
    """That `dvc repro --force` does so, too, is tested by `.ci/run` with the project itself."""
    pristine.run("git", "clone", "--quiet", str(pristine.folder), str(tmp_path / "a" / "second"))
    clone = Project.at(tmp_path / "a" / "second")
    output = clone.dvc("repro", DARKROOM_TRACKING="off")
    assert len(stages_run(output)) == 5
    assert "cached" not in output
    assert clone.text("dvc.lock") == pristine.text("dvc.lock")
