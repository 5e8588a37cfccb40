"""Maps a function over chunks in tasks of a Ray cluster, in order and with bounded memory."""

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from darkroom.compute.determinism import INSTRUCTION_SET
from darkroom.digests import code_digest
from darkroom.errors import UserError, brief
from darkroom.parallel import Chunk, Result, WorkerKilled

RETRIES = 3
"""How often the chunk of a process or node that was lost is computed again."""

PASSED_ON = (*INSTRUCTION_SET, "CUBLAS_WORKSPACE_CONFIG", "GOMP_SPINCOUNT")
"""Variables that decide how numerical libraries round; those of darkroom are passed on, too."""

CONNECT_SECONDS = 10.0
"""How long an address may take to answer; Ray itself would try for many minutes."""

_ADDRESS = re.compile(r"([^/:\s]+):([0-9]{1,5})")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster whose nodes have the same version of darkroom, and this folder at the same path."""

    cpus: int
    """CPUs that a task needs on its node."""
    num_gpus: int
    """GPUs that a task needs: 1 if the cluster has any and they may be used."""
    num_nodes: int
    """Number of nodes that have them."""

    def map(
        self,
        function: Callable[[Chunk], Result],
        chunks: Iterable[Chunk],
        workers: int,
        most_pending: int | None = None,
    ) -> Iterator[Result]:
        """Yield ``function(chunk)`` for every chunk, in order; see ``ordered_map``.

        Args:
            function: pickled for each task. It must be defined in a module of darkroom.
            workers: maximum number of tasks at once.

        Raises:
            UserError: a node lacks this folder or this version of darkroom.
            WorkerKilled: processes or nodes were lost again and again.
        """
        import ray

        task = ray.remote(_call).options(
            num_cpus=self.cpus,
            num_gpus=self.num_gpus,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )
        place, code, most = Path.cwd(), _code_here(), most_pending or 2 * workers + 1
        pending: deque[Any] = deque()
        try:
            for chunk in chunks:
                pending.append(task.remote(place, code, function, chunk))
                while len(running := _running(pending)) >= workers or len(pending) >= most:
                    if len(pending) >= most or pending[0] not in running:
                        yield _result(pending.popleft())
                    else:
                        ray.wait(running, fetch_local=False)
            while pending:
                yield _result(pending.popleft())
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)


@contextmanager
def connected(address: str, cpus: int | None, may_use_gpus: bool = False) -> Iterator[Cluster]:
    """Connect to a Ray cluster.

    Args:
        address: as ``ray start`` prints it, such as ``10.0.0.5:6379``, or ``auto``: a cluster to which
            this machine belongs.
        cpus: CPUs that a task needs; None: those of the smallest node.
        may_use_gpus: give each task a GPU, if the cluster has any.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or no node has that many CPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray; install it with `pip install 'darkroom[ray]'`") from None
    if address != "auto":
        _check(address)
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith("DARKROOM_")
    }
    try:
        ray.init(
            address,
            log_to_driver=False,
            logging_level="CRITICAL",
            runtime_env={"env_vars": passed_on},
        )
    except Exception as error:  # Ray's exceptions share no other base class
        raise UserError(
            f"--ray {address}: no Ray cluster can be reached: {brief(error)}; if `ray start` said that"
            " it uses tokens, set RAY_AUTH_MODE=token"
        ) from None
    try:
        yield _cluster(ray.nodes(), address, cpus, may_use_gpus)
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Raise ``UserError`` unless something answers at an address."""
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[2]) >= 2**16:
        raise UserError(
            f"--ray {address!r}: not an address; write HOST:PORT as `ray start` prints it, such as"
            " 10.0.0.5:6379, or auto"
        )
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--ray {address}: nothing answers there ({error.strerror or error}); start a cluster with"
            " `ray start --head`, which prints its address"
        ) from None


def _cluster(nodes: list[dict[str, Any]], address: str, cpus: int | None, may_use_gpus: bool) -> Cluster:
    of_nodes = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    num_gpus = int(may_use_gpus and any(one.get("GPU") for one in of_nodes))
    most = int(max((one["CPU"] for one in of_nodes), default=0))
    needed = cpus or int(min((one["CPU"] for one in of_nodes), default=1))
    fitting = [one for one in of_nodes if one["CPU"] >= needed and one.get("GPU", 0) >= num_gpus]
    if not fitting:
        raise UserError(
            f"--ray {address}: a task needs {needed} CPUs, and no node has more than {most};"
            " set num_threads in params.yaml, or start nodes with more CPUs"
        )
    return Cluster(needed, num_gpus, len(fitting))


def _running(references: Iterable[Any]) -> list[Any]:
    """Return the tasks that have not ended."""
    import ray

    asked = [*references]
    return ray.wait(asked, num_returns=len(asked), timeout=0, fetch_local=False)[1] if asked else []


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.ObjectLostError,
    ) as error:
        raise WorkerKilled(
            f"a process of the Ray cluster was lost {RETRIES + 1} times ({type(error).__name__}),"
            " perhaps because memory ran out; run again with larger nodes, or with fewer tasks per node"
        ) from None


def _call(place: Path, code: str, function: Callable[[Chunk], Result], chunk: Chunk) -> Result:
    """Compute a chunk in a process of a node."""
    node = socket.gethostname()
    if _code_here() != code:
        raise UserError(f"{node}: has another version of darkroom; install the same on all nodes")
    try:
        os.chdir(place)
    except OSError as error:
        raise UserError(
            f"{node}: {place}: {error.strerror}; all nodes need the project's folder at the same path,"
            " on a file system that they share"
        ) from None
    return function(chunk)


@cache
def _code_here() -> str:
    """Return a digest of this process's darkroom."""
    package = Path(__file__).parent
    rooms = [path.parent.name for path in package.glob("*/__init__.py")]
    return code_digest(sorted(rooms))
