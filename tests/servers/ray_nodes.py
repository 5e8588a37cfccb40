"""Two nodes of a Ray cluster on this machine, and functions that their processes compute."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from project import ROOT

START_SECONDS = 60


@contextmanager
def node(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node, which ends with the block; its processes are a group."""
    paths = [ROOT / "src", ROOT / "tests", Path(__file__).parent]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "4",
    }
    command = [f"{Path(sys.executable).parent / 'ray'}", "start", "--block", "--num-cpus=2", *arguments]
    memory = "--object-store-memory=80000000"
    with (folder / f"node{time.monotonic_ns()}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, memory, "--node-ip-address=127.0.0.1", "--disable-usage-stats"],
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Nodes:
    """A head, and a second node that can be lost."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._stack = ExitStack()
        # sockets are in it, whose paths may have 107 characters only
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        head = ("--head", f"--port={port}", "--include-dashboard=false")
        self._stack.enter_context(node(self._folder, *head, f"--temp-dir={self._folder}"))
        self._wait_for(1)
        self.add()

    def add(self) -> None:
        """Starts the second node."""
        self._second = self._stack.enter_context(node(self._folder, f"--address={self.address}"))
        self._wait_for(2)

    def lose(self) -> None:
        """Kills all processes of the second node at once."""
        os.killpg(self._second.pid, signal.SIGKILL)
        self._second.wait()

    def close(self) -> None:
        self._stack.close()

    def _wait_for(self, number: int) -> None:
        command = f"import ray; ray.init('{self.address}', logging_level='CRITICAL'); print(sum("
        command += "node['Alive'] for node in ray.nodes()))"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):  # Ray asks for long at an address not yet open
                found = subprocess.run(
                    [sys.executable, "-c", command], stdout=subprocess.PIPE, timeout=START_SECONDS / 3
                )
                if found.stdout.strip() == b"%d" % number:
                    return
            time.sleep(0.5)
        logs = "\n".join(path.read_text() for path in self._folder.glob("*.log"))
        raise AssertionError(f"no {number} nodes after {START_SECONDS} s:\n{logs}")


def where(number: int) -> tuple[int, str, int]:
    """The number, and the node and the process that compute this."""
    import ray

    time.sleep(0.3)
    return number, ray.get_runtime_context().get_node_id(), os.getpid()


def variables(name: str) -> str | None:
    return os.environ.get(name)


def dies(number: int) -> None:
    os._exit(1)


def dies_once(path: Path) -> str:
    """Ends its process when it is called first."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return path.name
    os._exit(1)


def slow(number: int) -> int:
    time.sleep(1)
    return number


def mistake(number: int) -> None:
    from darkroom.errors import UserError

    raise UserError(f"number {number} is a mistake")
