"""New processes that need not import anything: children of a process that has done so once."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SERVER = """
import json, os, signal, sys, traceback
exec(sys.argv[1])

def run(job):
    os.chdir(job["cwd"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(file, number)
    signal.alarm(job["seconds"])
    sys.argv = ["-c", *job["arguments"]]
    exec(compile(job["code"], "<job>", "exec"), {"__name__": "__main__"})

def status_of(job):
    try:
        run(job)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else end.code is not None
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    if (child := os.fork()) == 0:
        status = status_of(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Minus the signal, if one ended it."""
    output: str
    """Standard output, with standard error within it."""


class WarmPython:
    """Runs code as ``python -c`` does, each time in a new process, without the seconds of imports.

    Code that starts threads must not be among the imports: a child has only the thread that forked it.
    """

    def __init__(
        self, imports: str, output: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """
        Args:
            imports: code that the server runs once.
            output: a file for what children print.
            env: the environment, if not this process's.
            cwd: where the imports run, if not in the current folder.
        """
        self._output = output
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            cwd=cwd,
            text=True,
            bufsize=1,
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, code: str, *arguments: object, cwd: Path, seconds: int = 300) -> Ended:
        """Runs ``code`` to its end; after ``seconds`` it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"code": code, "arguments": [*map(str, arguments)], "cwd": f"{cwd}"}
        job |= {"output": f"{self._output}", "seconds": seconds}
        self._process.stdin.write(f"{json.dumps(job)}\n")
        answer = self._process.stdout.readline()
        assert answer, "the server has ended"
        return Ended(int(answer), self._output.read_text())
