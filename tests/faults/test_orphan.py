"""A stage does not outlive the `dvc` that runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

STAGE = """
import os, signal, sys, time
from darkroom.pipeline import orphan

signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True) or os._exit(0))
orphan.LOOK_EVERY_SECONDS = 0.02
orphan.end_with_dvc()
print(os.getpid(), flush=True)
time.sleep(float(sys.argv[1]))
print("left alone", flush=True)
"""

DVC = "import subprocess, sys; subprocess.run(sys.argv[1:])"


def start(seconds: float, shell: bool) -> subprocess.Popen[str]:
    """Start a stage of the given number of seconds below a process that stands for ``dvc``.

    Args:
        shell: a shell stands between the two.
    """
    stage = [sys.executable, "-c", STAGE, str(seconds)]
    if shell:
        stage = ["sh", "-c", '"$@"; true', "sh", *stage]
    dvc = subprocess.Popen(
        [sys.executable, "-c", DVC, *stage],
        env={**os.environ, "DVC_STAGE": "train"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dvc.stdout is not None
    assert int(dvc.stdout.readline()) > 0  # by now it watches
    return dvc


@pytest.mark.parametrize("shell", [False, True])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("is_heard", [True, False])
def test_a_stage_whose_dvc_is_killed_is_asked_to_end(shell: bool, signum: int, is_heard: bool) -> None:
    dvc = start(600, shell)
    assert dvc.stdout is not None
    assert dvc.stderr is not None
    if not is_heard:
        dvc.stderr.close()  # nobody reads what the stage says
    dvc.send_signal(signum)
    assert dvc.stdout.read() == "asked to end\n"  # dvc itself is not waited for: it may stay a zombie
    dvc.wait()
    if is_heard:
        assert "dvc has ended" in dvc.stderr.read()
        dvc.stderr.close()
    dvc.stdout.close()


@pytest.mark.parametrize("shell", [False, True])
def test_a_stage_whose_dvc_lives_is_left_alone(shell: bool) -> None:
    dvc = start(0.3, shell)
    assert dvc.communicate()[0] == "left alone\n"


def test_a_stage_that_no_dvc_runs_is_left_alone() -> None:
    command = ["sh", "-c", '"$@" & exit', "sh", sys.executable, "-c", STAGE, "0.3"]
    environ = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as shell:
        output, _ = shell.communicate()
    assert output.endswith("left alone\n")
