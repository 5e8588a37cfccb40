"""Pipelines whose `dvc` or whose training is killed: `dvc repro` again gives the same bytes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from effort import at_least, only_with_all
from project import Project

ENDS_WITHIN_SECONDS = 5.0
"""What a training whose `dvc` is gone has left."""

MODEL = "models/model.safetensors"
ENVIRON = {"DARKROOM_TRACKING": "off", "DARKROOM_CHECKPOINT_SECONDS": "1"}


TRAIN = ("dvc", "repro", "--force", "--single-item", "train")


def copy_of(finished: Project, folder: Path) -> Project:
    """A copy that knows nothing of earlier trainings."""
    return finished.copy(folder, "runs", "mlflow.db", "mlartifacts", "tmp", ".darkroom")


def longer_copy_of(finished: Project, folder: Path) -> Project:
    """A copy in which there is more to train."""
    project = copy_of(finished, folder)
    project.set_params(train__epochs=18, num_threads=1, train__ema_decay=0.9, model__dropout=0.1)
    project.set_params(train__gradient_norms=True)
    return project


def states(project: Project) -> list[Path]:
    return sorted(project.folder.glob(".darkroom/train/*/*-*.pt"))


def repro(project: Project) -> subprocess.Popen[str]:
    """Starts to train."""
    return project.start(*TRAIN, **ENVIRON)


def until_a_state_is_saved(project: Project, dvc: subprocess.Popen[str]) -> int:
    """Waits for a new state, and returns the id of the training process."""
    earlier = states(project)[-1:]
    while states(project)[-1:] == earlier:
        assert dvc.poll() is None, dvc.communicate()
        time.sleep(0.005)
    return int(project.text(".darkroom/locks/train.pid"))


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # one that nobody has waited for is dead, too


def assert_ends_soon(pid: int) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def results(project: Project) -> dict[str, bytes]:
    files = [project.folder / MODEL, *(project.folder / "reports/train").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def assert_goes_on_to(expected: Project, project: Project) -> None:
    """Trains to the end, from a state and not from the beginning."""
    assert states(project)
    output = project.run(*TRAIN, **ENVIRON)
    assert "train: resumes after step" in output
    assert results(project) == results(expected)
    assert list((project.folder / ".darkroom/train").iterdir()) == []


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def undisturbed(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was trained without a kill."""
    project = longer_copy_of(finished, tmp_path_factory.mktemp("undisturbed") / "project")
    assert "resumes" not in project.run("python", "stages/train.py", **ENVIRON)
    assert list((project.folder / ".darkroom/train").iterdir()) == []
    return project


@pytest.mark.slow
def test_a_killed_dvc_takes_its_training_along_and_the_next_one_goes_on(
    finished: Project, tmp_path: Path
) -> None:
    project = copy_of(finished, tmp_path / "project")
    with repro(project) as dvc:
        trainer = until_a_state_is_saved(project, dvc)
        os.kill(trainer, signal.SIGSTOP)  # so that it outlives its dvc for as long as we like
        dvc.kill()
        dvc.wait()
        try:
            refusal = project.run(*TRAIN, check=False, **ENVIRON)
        finally:
            os.kill(trainer, signal.SIGCONT)
        assert f"another train is running in this project, process {trainer};" in refusal
        assert "failed to reproduce 'train'" in refusal
        assert_ends_soon(trainer)
    assert_goes_on_to(finished, project)


@pytest.mark.slow
@only_with_all
def test_whoever_is_asked_to_end_the_next_one_goes_on(
    finished: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = longer_copy_of(finished, tmp_path / "project")
    for who, signum in [
        ("dvc", signal.SIGTERM),
        ("trainer", signal.SIGTERM),
        ("both", signal.SIGINT),  # as a terminal sends it
    ]:
        with repro(project) as dvc:
            trainer = until_a_state_is_saved(project, dvc)
            if who != "trainer":
                dvc.send_signal(signum)
            if who != "dvc":
                os.kill(trainer, signum)
            assert_ends_soon(trainer)
            dvc.wait()
        assert dvc.returncode != 0
        assert not (project.folder / MODEL).exists()
    assert_goes_on_to(undisturbed, project)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)][: at_least(1, 2)]
)
def test_a_stage_that_is_asked_to_end_saves_and_says_so_by_its_status(
    signum: int, status: int, finished: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = longer_copy_of(finished, tmp_path / "project")
    environ = {**ENVIRON, "DARKROOM_CHECKPOINT_SECONDS": "3600"}
    with project.start("python", "stages/train.py", **environ) as stage:
        until_a_state_is_saved(project, stage)  # at the end of the first epoch
        earlier = states(project)
        stage.send_signal(signum)
        output, _ = stage.communicate()
    assert stage.returncode == status, output
    assert states(project)[-1] > earlier[-1]
    assert_goes_on_to(undisturbed, project)


@pytest.mark.slow
@only_with_all
def test_other_params_and_other_code_begin_anew(
    finished: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = longer_copy_of(finished, tmp_path / "project")
    with repro(project) as dvc:
        trainer = until_a_state_is_saved(project, dvc)
        os.kill(trainer, signal.SIGKILL)
    assert dvc.returncode != 0
    assert not (project.folder / MODEL).exists()
    [before] = {path.parent for path in states(project)}

    project.set_params(train__lr=0.0999)
    assert "resumes" not in project.run(*TRAIN, **ENVIRON)
    assert results(project) != results(undisturbed)
    project.set_params(train__lr=0.1)

    engine = project.folder / "src/darkroom/training/engine.py"
    code = engine.read_text()
    engine.write_text(f"{code}# edited\n")
    assert "resumes" not in project.run(*TRAIN, **ENVIRON)
    assert results(project) == results(undisturbed)
    engine.write_text(code)

    assert {path.parent for path in states(project)} == {before}  # left alone
    project.run(*TRAIN, **ENVIRON)
    assert results(project) == results(undisturbed)
    assert states(project) == []
