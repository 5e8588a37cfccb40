"""A real `darkroom serve` process, and clients for it."""

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60
"""How long a busy machine may take for one thing."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def prediction(self) -> dict[str, Any]:
        assert self.status == 200, self.body
        [one] = self.json["predictions"]
        return one


class Served:
    """A server's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        started = self.waits_for(" on http://")
        self.address = started.partition(" on ")[2].partition(";")[0]
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        self.host, self.port = host, int(port)

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())
        self._new.put("(end)")

    def waits_for(self, text: str) -> str:
        """Waits for a line with ``text`` on standard error, and returns it."""
        while True:
            line = self._new.get(timeout=PATIENCE_SECONDS)
            if text in line:
                return line
            assert line != "(end)", self.lines

    def ask(self, path: str, body: bytes | None = None, method: str = "", **headers: str) -> Answer:
        """Sends a request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method or ("POST" if body is not None else "GET"), path, body, named)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def predict(self, content: bytes, query: str = "", **headers: str) -> Answer:
        """Sends an image as the body."""
        return self.ask(f"/predict{query}", content, **{"content_type": "image/png", **headers})

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS)

    def metric(self, name: str) -> float:
        """Returns the sum of a counter over its labels."""
        lines = self.ask("/metrics").body.decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    def until(self, what: str, look: Any) -> None:
        """Waits until ``look`` returns something true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look():
            assert time.monotonic() < deadline, f"{what}: not seen; {self.lines}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(
    model: Path | str, *options: object, cwd: Path | None = None, **env: str
) -> Iterator[Served]:
    """Runs `darkroom serve` on a free port of this machine."""
    command = [sys.executable, "-c", "from darkroom.cli import main; main()", "serve", f"{model}"]
    process = subprocess.Popen(
        [*command, "--port", "0", *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
    )
    try:
        yield Served(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_SECONDS)
        assert process.stderr
        process.stderr.close()


def form(*files: tuple[str, bytes], boundary: str = "edge") -> tuple[bytes, str]:
    """Returns the body of a form with files, and its content type."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def read_answer(connection: socket.socket) -> Answer:
    """Reads one answer from a raw connection, until it is whole or the server closes."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, dict(response.getheaders()), response.read())


def check_refusal(answer: Answer, status: int, words: str) -> None:
    """Checks that an answer says what is wrong and what to do, and nothing of the server."""
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "what_to_do"}
    assert words in answer.json["error"]
    assert "Traceback" not in answer.body.decode()
    assert str(Path.home().parent) not in answer.json["error"] or Path.home().parent == Path("/")
