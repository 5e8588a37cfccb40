"""tools/setup.sh, with a Python that only writes down what it is asked."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
for argument; do last=$argument; done
case "$*" in
    *"pip install"*--requirement*)
        echo "$*" >> "{notes}/calls"
        cat "$last" > "{notes}/requirements.$(grep -c . "{notes}/calls")"
        exit {status} ;;
    *"pip install"*) echo "$*" >> "{notes}/calls" ;;
esac
"""


def set_up(folder: Path, lock: str, status: int = 0) -> tuple[list[str], list[str]]:
    """Runs the script where there is no uv.

    Returns:
        What pip was asked to install, and the texts of the requirement files.
    """
    for part in ("tools", "venv/bin", "notes", "src", "stages"):
        (folder / part).mkdir(parents=True)
    (folder / "tools/setup.sh").write_bytes((ROOT / "tools/setup.sh").read_bytes())
    (folder / "requirements.lock").write_text(lock)
    python = folder / "venv/bin/python"
    python.write_text(PYTHON.format(notes=folder / "notes", status=status))
    python.chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder / "notes")}
    if any(Path(place, "uv").exists() for place in env["PATH"].split(":")):
        pytest.skip("there is a uv in /usr/bin or /bin")
    subprocess.run(["bash", "tools/setup.sh", "venv"], cwd=folder, env=env, timeout=60)
    calls = (folder / "notes/calls").read_text().splitlines()
    texts = [path.read_text() for path in sorted((folder / "notes").glob("requirements.*"))]
    assert len(os.listdir(folder / "notes")) == 1 + len(texts)  # no temporary file is left
    return calls, texts


def test_uv_is_installed_by_the_hashes_of_the_lock(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    block = re.search(r"^uv==.*(?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+\n", lock, re.MULTILINE)
    assert block is not None
    calls, texts = set_up(tmp_path, lock)
    assert "--require-hashes" in calls[0]
    assert "uv==" not in calls[0]
    assert texts[0] == block[0]
    assert texts[0].count("--hash=sha256:") >= 2


def test_where_uv_fails_pip_installs_all_by_their_hashes(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    calls, texts = set_up(tmp_path, lock, status=1)
    assert len(calls) == 2
    assert "--require-hashes" in calls[1]
    assert texts[1] == lock


def test_uv_without_a_hash_is_not_installed(tmp_path: Path) -> None:
    _, texts = set_up(tmp_path, "uv==1.2.3\nother==1 \\\n    --hash=sha256:ab\n")
    # pip, which checks the whole lock, is left to refuse it
    assert len(texts) == 1
    assert "other" in texts[0]
