"""`mlflow models serve` answers a real client with the bits of `darkroom predict`."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import registered
from project import free_port
from served_exports import IMAGES, draw, write_export

from darkroom.prediction.decisions import Failure
from darkroom.prediction.predictor import Predictor
from darkroom.tracking.mlflow.logged_model import log_onnx
from darkroom.tracking.mlflow.registry import propose
from darkroom.tracking.records import File

MLFLOW = Path(sys.executable).with_name("mlflow")


@contextmanager
def mlflow_serve(root: Path, model: str) -> Iterator[str]:
    """Runs the command in a project; yields the address when the server answers."""
    port = free_port()
    command = [MLFLOW, "models", "serve", "-m", model, "--env-manager", "local", "-p", f"{port}"]
    hidden = ("MLFLOW_TRACKING_URI", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            while not answers_at(f"{address}/ping"):
                assert server.poll() is None, (root / "server.log").read_text()
                time.sleep(0.1)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers_at(address: str) -> bool:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status == 200
    except OSError:
        return False


def ask(address: str, body: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", content, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_the_answers_of_the_server_are_those_of_predict(empty_mlflow: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(empty_mlflow, root / "mlflow.db")
    exported = write_export(tmp_path / "export")
    store = registered.new_store(root, "darkroom")
    _, record = registered.make_record(root, 1.0)
    content = (exported / "model.onnx").read_bytes()
    file = File(path="model.onnx", sha256=registered.sha256_of(content), size=len(content))
    record = record.model_copy(update={"file": file})
    run_id = registered.make_tested_run(store)
    described = exported / "model.json"
    propose(store, log_onnx(store, run_id, exported / "model.onnx", record, described), 1)
    store.client.set_registered_model_alias("darkroom", "champion", "1")
    paths = [root / name for name in IMAGES]
    for path in paths:
        path.write_bytes(IMAGES[path.name])
    expected = list(Predictor(exported).predict(paths, 5))
    texts = [base64.b64encode(content).decode() for content in IMAGES.values()]
    with mlflow_serve(root, "models:/darkroom@champion") as address:
        for body in (
            {"inputs": {"image": texts}},
            {"dataframe_records": [{"path": f"{path}"} for path in paths]},
        ):
            status, answer = ask(address, body)
            assert (status, len(answer["predictions"])) == (200, len(IMAGES)), answer
            for found, outcome in zip(answer["predictions"], expected, strict=True):
                assert not isinstance(outcome, Failure)
                assert [one["probability"] for one in found["top"]] == list(outcome.probabilities)
        status, other = ask(address, {"inputs": {"image": [base64.b64encode(draw(9)).decode()]}})
        assert other["predictions"][0]["top"] != answer["predictions"][0]["top"]
        for body, words in (
            ({"inputs": {"image": ["!!"]}}, "image 1: not base64"),
            ({"inputs": {"image": ["aGVsbG8="]}}, "image 1: not an image"),
            ({"dataframe_records": [{"path": "/no/such.png"}]}, "/no/such.png: No such file"),
            ({"dataframe_records": [{"picture": texts[0]}]}, "the request has no images"),
            ({"dataframe_records": []}, "the request has no images"),
            ({"images": texts[:1]}, "exactly one of the input fields"),
            (b"no JSON", "valid JSON"),
        ):
            status, refusal = ask(address, body)
            assert status == 400
            assert words in refusal["message"]
            assert "Traceback" not in json.dumps(refusal)
        assert ask(address, {"inputs": {"image": texts}})[0] == 200
