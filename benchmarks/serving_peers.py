"""Load on the same exported model behind darkroom serve and behind other servers, in turns.

    python benchmarks/serving_peers.py [EXPORT] [--images FOLDER] [--seconds 20] [--rounds 2]

All servers (benchmarks/servers/) decode and classify with darkroom's code and the same session of ONNX
Runtime, so that what differs is HTTP, batches and processes: FastAPI and uvicorn without batches,
LitServe, BentoML and Ray Serve, in throw-away environments. The clients are those of serving.py:
threads of this process, each with a connection of its own, one image per request as a form, as `curl -F
file=@NAME` sends it. A server is started, waited for, warmed up, asked for some seconds, and ended; the
next one follows. A server that cannot be installed or does not answer is reported as not measured.

Adds a line per round to benchmarks/results/serving-peers.jsonl. The machine must be quiet: clients and
servers share its cores.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from environments import make_environments
from machine import hardware, keep
from serving import Load, bare, images_for

from darkroom.prediction.predictor import Predictor

SERVERS = Path(__file__).parent.resolve() / "servers"
PACKAGES = {
    "darkroom": None,
    "plain": None,
    "litserve": "litserve",
    "bentoml": "bentoml",
    "ray_serve": "ray[serve]",
}
BOUNDARY = "boundary-of-the-form"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
START_SECONDS = 180


def form(image: bytes) -> bytes:
    """Returns the body of a form with one file."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def command(name: str, python: Path, export: Path, port: int) -> list[str]:
    """Returns the command that starts a server."""
    if name == "darkroom":
        return [f"{python.parent / 'darkroom'}", "serve", f"{export}", "--port", f"{port}"]
    if name == "bentoml":
        arguments = ["serve", "with_bentoml:Classifier", "--working-dir", f"{SERVERS}"]
        return [f"{python}", "-m", "bentoml", *arguments, "--port", f"{port}", "--host", "127.0.0.1"]
    file = {"plain": "plain", "litserve": "with_litserve", "ray_serve": "with_ray"}[name]
    return [f"{python}", f"{SERVERS / file}.py", f"{export}", f"{port}"]


@contextlib.contextmanager
def running(name: str, python: Path, export: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Yields the port and the process id of a server; ends all its processes afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, "EXPORT": f"{export}", "RAY_USAGE_STATS_ENABLED": "0"}
    environ["RAY_AUTH_MODE"] = "disabled"  # otherwise Ray makes a token in the home folder
    environ |= {"BENTOML_DO_NOT_TRACK": "True", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command(name, python, export, port), cwd=folder, env=environ, stdout=log, stderr=log
        )
    try:
        yield port, process.pid
    finally:
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)] if root.is_running() else []
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=20)
        for child in left:
            child.kill()
        process.wait()


def seconds_to_answer(port: int, pid: int, body: bytes) -> float:
    """Waits for the first answer.

    Raises:
        RuntimeError: there is none.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < START_SECONDS and psutil.pid_exists(pid):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(OSError, HTTPException):
            connection.request("POST", "/predict", body, HEADERS)
            if connection.getresponse().status == 200:
                return time.perf_counter() - began
        connection.close()
        time.sleep(0.1)
    raise RuntimeError("no answer")


def memory_mib(pid: int) -> float:
    """Returns the memory of a process and its children; what they share is counted once."""
    root = psutil.Process(pid)
    return sum(p.memory_full_info().pss for p in [root, *root.children(recursive=True)]) / 2**20


def measure(
    name: str, python: Path, export: Path, bodies: list[bytes], clients: int, seconds: float
) -> dict[str, Any]:
    """Returns the figures of one server."""
    with TemporaryDirectory() as folder, running(name, python, export, Path(folder)) as (port, pid):
        try:
            start = seconds_to_answer(port, pid, bodies[0])
        except RuntimeError as error:
            lines = Path(folder, f"{name}.log").read_text(encoding="utf-8").splitlines()
            return {"not_measured": f"{error}: {' '.join(lines[-1:])}"}
        Load(port, bodies, HEADERS).run(clients, min(seconds / 4, 3))  # warm
        load = Load(port, bodies, HEADERS)
        took = load.run(clients, seconds)
        memory = memory_mib(pid)
    answered = load.statuses["200"]
    quantiles = np.quantile(load.latencies, [0.5, 0.99]) * 1000
    return {
        "requests_per_second": round(answered / took, 1),
        "p50_ms": round(float(quantiles[0]), 1),
        "p99_ms": round(float(quantiles[1]), 1),
        "errors": len(load.latencies) - answered,
        "start_seconds": round(start, 1),
        "memory_mib": round(memory),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("export", nargs="?", default="export", type=Path)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="send these files")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    export = options.export.resolve()
    predictor = Predictor(export)
    files = images_for(predictor, options.images)
    bodies = [form(image) for image in files]
    with TemporaryDirectory() as folder:
        pythons, failed = make_environments(PACKAGES, Path(folder))
        for _ in range(options.rounds):
            rate, rate_with_decoding = bare(predictor, files, min(options.seconds / 4, 5))
            figures = {
                name: measure(name, python, export, bodies, options.clients, options.seconds)
                for name, python in pythons.items()
            }
            own = figures["darkroom"].get("requests_per_second", 0)
            keep(
                "serving-peers",
                {
                    "model_mib": round((export / "model.onnx").stat().st_size / 2**20, 2),
                    "input": list(predictor.input_shape),
                    "images": options.images.name if options.images else "noise",
                    "clients": options.clients,
                    "seconds": options.seconds,
                    "bare_images_per_second": round(rate),
                    "bare_with_decoding_per_second": round(rate_with_decoding),
                    "figures": figures | failed,
                    "over_darkroom": {
                        name: round(found["requests_per_second"] / own, 2)
                        for name, found in figures.items()
                        if own and "requests_per_second" in found
                    },
                    **hardware(),
                },
            )


if __name__ == "__main__":
    main()
