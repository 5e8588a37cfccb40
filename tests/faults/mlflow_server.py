"""A real MLflow server on the loopback interface, and a proxy before it that answers badly on demand."""

import http.client
import os
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from project import free_port

SERVER = """
import os, sys
folder, port = sys.argv[1:]
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder}/server.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = f"{folder}/artifacts"
os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
from mlflow.server import app
from werkzeug.serving import make_server
make_server("127.0.0.1", int(port), app, threaded=True).serve_forever()
"""


class MlflowServer:
    """MLflow's own application in one process, with its database and artifacts in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(self.folder), str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health")
            except OSError:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def limit_files(self, size: int = resource.RLIM_INFINITY) -> None:
        """Has its disk take no file larger than ``size``: full, for all that it can tell."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, hard))


Fault = str | None
"""What happens to a request; None: nothing."""


class Proxy:
    """Passes requests on to a server, but for what ``fault`` says of each, by its method and path.

    - error: status 500, and the server sees nothing;
    - nonsense: a page of HTML, as a captive network shows;
    - hang: no answer for as long as the fault is in place;
    - slow: an answer after a second;
    - lost: the server does it, and its answer is lost;
    - cut: half of the answer;
    - corrupt: one byte of what is sent is another.
    """

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.counts: Counter[Fault] = Counter()
        self.is_hanging = threading.Event()
        self._end_hanging = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault(self.command, self.path)
                if fault == "corrupt" and not (self.command == "PUT" and body):
                    fault = None
                proxy.counts[fault] += 1
                self.close_connection = True
                match fault:
                    case "hang":
                        proxy.is_hanging.set()
                        proxy._end_hanging.wait(60)
                        return
                    case "error":
                        self._answer(500, b"out of order")
                        return
                    case "nonsense":
                        self._answer(200, b"<html>please log in</html>")
                        return
                    case "slow":
                        time.sleep(1)
                    case "corrupt":
                        body = bytes([body[0] ^ 1]) + body[1:]
                connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    content = response.read()
                except OSError:
                    return
                finally:
                    connection.close()
                if fault != "lost":
                    self._answer(response.status, content, cut=fault == "cut")

            def _answer(self, status: int, content: bytes, cut: bool = False) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if cut else content)

            def log_message(self, *arguments: object) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def work(self) -> None:
        """Passes everything on from now on."""
        self.fault = lambda method, path: None
        self._end_hanging.set()

    def close(self) -> None:
        self.work()
        self._server.shutdown()
        self._server.server_close()
