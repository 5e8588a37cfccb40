"""The engine trains without the packages of the pipeline around it, as on a borrowed GPU machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dvc", "mlflow", "pydantic", "pydantic_core", "ruamel"):
            raise ModuleNotFoundError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
"""


def run_blocked(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *arguments],
        env=os.environ | {"DARKROOM_DEVICE": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_pipeline_needs_packages_that_are_blocked() -> None:
    done = run_blocked("import darkroom.training.job")
    assert "ModuleNotFoundError: pydantic" in done.stderr


@pytest.mark.slow
def test_the_engine_trains_without_them() -> None:
    """Runs the tests of test_cuda.py for a CPU, and imports what tools/gpu.sh measures with."""
    code = """
import pytest
sys.path.insert(0, "benchmarks")
import gpu, peers, train_loop, training
options = ["--noconftest", "-q", "-p", "no:cacheprovider", "-k", "cpu"]
sys.exit(pytest.main([*options, *sys.argv[1:]]))
"""
    done = run_blocked(code, "tests/unit/test_cuda.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
