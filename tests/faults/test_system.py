"""Full and read-only disks, limits, encodings: one line with path and reason, and nothing is lost.

Each command runs in a mount namespace of its own, with a tiny file system over one folder.
"""

import hashlib
import subprocess
from pathlib import Path

import pytest
from effort import ALL
from PIL import Image
from project import Project

pytestmark = pytest.mark.slow

FULL = {
    "prepare, its outputs": ("data/prepared", "64k", "stages/prepare.py", "full: data/prepared"),
    "prepare, its scratch": (".darkroom", "32k", "stages/prepare.py", "full: .darkroom"),
    "prepare, its report": ("reports/prepare", "8k", "stages/prepare.py", "No space left on device"),
    "train, its report": ("reports/train", "8k", "stages/train.py", "No space left on device"),
    "evaluate": ("reports/evaluate", "16k", "stages/evaluate.py", "No space left on device"),
    "export": ("export", "16k", "stages/export.py", "full: export"),
}

ALIKE = ("prepare, its scratch", "prepare, its report", "evaluate")
"""Only with ALL_TESTS=1, like others that take many seconds."""

READ_ONLY = {
    "prepare": ("data/prepared", "stages/prepare.py"),
    "train": ("models", "stages/train.py"),
    "evaluate": ("reports", "stages/evaluate.py"),
    "export": ("export", "stages/export.py"),
    "scratch": (".darkroom", "stages/prepare.py"),
}


@pytest.fixture(scope="module")
def project(pristine: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    return pristine.copy(tmp_path_factory.mktemp("system") / "project")


def alone(project: Project, setup: str, command: str, **env: str) -> tuple[int, str]:
    """Runs ``command`` after ``setup``, whose mounts nobody else sees; returns its status and output."""
    script = f"set -e; {setup}; set +e; {command}"
    environ = {"DARKROOM_TRACKING": "off", **env}  # it writes into none of these folders
    with project.start("unshare", "-m", "bash", "-c", script, **environ) as process:
        output, _ = process.communicate(timeout=300)
    return process.returncode, output


def hashes(project: Project) -> dict[str, str]:
    files = [
        path
        for top in ("data/prepared", "models", "reports", "export")
        for path in (project.folder / top).rglob("*")
        if path.is_file()
    ]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", [name for name in FULL if ALL or name not in ALIKE])
def test_a_full_disk_is_one_line(project: Project, name: str) -> None:
    folder, size, script, said = FULL[name]
    before = hashes(project)
    setup = f"mkdir -p {folder}; mount -t tmpfs -o size={size} none {folder}"
    status, output = alone(project, setup, f"python {script}")
    assert status == 2, output
    assert "Traceback" not in output
    # standard output, which is written at the end, may follow it
    said_lines = [line for line in output.splitlines() if said in line]
    assert said_lines, output
    assert said_lines[-1].startswith(f"{Path(script).stem}: ")
    assert "run again" in said_lines[-1]
    # with free space again, the stages finish with the same outputs
    status, output = alone(project, "true", f"python {script}")
    assert status == 0, output
    assert hashes(project) == before


@pytest.mark.parametrize(("folder", "script"), READ_ONLY.values(), ids=READ_ONLY)
def test_a_read_only_disk_is_one_line(project: Project, folder: str, script: str) -> None:
    setup = f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}"
    status, output = alone(project, setup, f"python {script}")
    assert status == 2, output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if "Read-only file system" in line]
    assert lines, output
    assert f"{folder}/" in lines[-1]


def test_without_shared_memory_one_process_works(project: Project) -> None:
    setup = "mount -t tmpfs none /dev/shm; mount -o remount,ro /dev/shm"
    pool = "from darkroom.parallel import ordered_map; print(list(ordered_map(abs, [1, -2], {})))"
    call = f"""python -c "
from darkroom.errors import UserError
try:
    {pool}
except UserError as error:
    print(error)
\""""
    status, output = alone(project, setup, call.format(2).replace('\\"', '"'))
    assert status == 0, output
    assert "/dev/shm" in output
    assert "DARKROOM_WORKERS=1" in output
    status, output = alone(project, setup, "python stages/prepare.py", DARKROOM_WORKERS="1")
    assert status == 0, output


def test_a_limit_on_the_size_of_files_is_one_line(project: Project) -> None:
    status, output = alone(project, "trap '' XFSZ", "ulimit -f 20; python stages/export.py")
    assert status == 2, output
    assert "Traceback" not in output, output
    assert "File too large" in output


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C"}])
def test_commands_print_in_any_encoding(project: Project, env: dict[str, str]) -> None:
    folder = project.folder / "日本\x1b[31m"
    folder.mkdir(exist_ok=True)
    Image.new("L", (8, 8)).save(folder / "ä.png")
    output = project.run("darkroom", "predict", "export", str(folder), **env)
    assert "Traceback" not in output
    assert "\x1b" not in output


def test_nobody_reads_to_the_end(project: Project) -> None:
    (project.folder / "many").mkdir()
    for index in range(100):
        Image.new("L", (8, 8), index).save(project.folder / f"many/{index}.png")
    command = "set -o pipefail; darkroom predict export many | head -n 1"
    _, output = alone(project, "true", command)
    assert "Traceback" not in output
    assert "BrokenPipeError" not in output
