"""One run of a stage at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.errors import UserError
from darkroom.pipeline.locks import only_one

HOLD = """
import sys
from pathlib import Path
from darkroom.pipeline.locks import only_one
with only_one("train", Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_with_the_process_of_the_first_until_that_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        for _ in range(2):  # a refusal leaves the lock and the name of its holder as they are
            with pytest.raises(UserError, match=f"another train .* process {first.pid};"):
                only_one("train", tmp_path).__enter__()
        with only_one("prepare", tmp_path):
            pass  # another stage is not kept out
        first.kill()
    with only_one("train", tmp_path):  # a killed process holds nothing
        pass
    with only_one("train", tmp_path):
        pass
