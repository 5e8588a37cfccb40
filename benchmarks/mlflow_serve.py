"""Times MLflow's own server: from the command to the first answer, with nothing installed before.

    python benchmarks/mlflow_serve.py photo.png

Run it in the folder of a project whose registered model has a champion (`darkroom promote`). The first
start installs the model's requirements into an empty environment from an empty cache, so it includes the
downloads; the second start finds the environment. Prints a JSON line and adds it to
benchmarks/results/mlflow-serve.jsonl.
"""

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from machine import hardware, keep

MODEL = "models:/darkroom@champion"
PATIENCE_SECONDS = 900


def seconds_to_answer(image: Path, folder: Path) -> tuple[float, list[str]]:
    """Starts the server and returns the seconds to its first answer, and the answer's classes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    body = json.dumps({"inputs": {"image": [base64.b64encode(image.read_bytes()).decode()]}}).encode()
    url, headers = f"http://127.0.0.1:{port}/invocations", {"Content-Type": "application/json"}
    environ = {
        **os.environ,
        "MLFLOW_ENV_ROOT": f"{folder / 'environments'}",
        "UV_CACHE_DIR": f"{folder / 'cache'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    command = ["mlflow", "models", "serve", "-m", MODEL, "--env-manager", "uv", "--port", f"{port}"]
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while time.monotonic() - began < PATIENCE_SECONDS and server.poll() is None:
            try:
                request = urllib.request.Request(url, body, headers)
                answer = json.load(urllib.request.urlopen(request, timeout=10))
                return time.monotonic() - began, answer["predictions"][0]["classes"]
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    raise SystemExit((folder / "log").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first, classes = seconds_to_answer(options.image, folder)
        second, again = seconds_to_answer(options.image, folder)
        assert again == classes
        python = next((folder / "environments").glob("*/lib/python*/site-packages"))
        packages = {path.name.partition("-")[0].lower() for path in python.glob("*.dist-info")}
    keep(
        "mlflow-serve",
        {
            "first_answer_seconds": round(first, 1),
            "second_start_seconds": round(second, 1),
            "packages": len(packages),
            "has_torch": "torch" in packages,
            **hardware(),
        },
    )


if __name__ == "__main__":
    main()
