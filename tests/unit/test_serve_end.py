"""The start and the end of a `darkroom serve` process: signals under load, and what it imports."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest
from served import Answer, Served, read_answer, serving
from served_exports import IMAGES, write_export

pytestmark = pytest.mark.slow

IMAGE = IMAGES["0.png"]

HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    % len(IMAGE)
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("end") / "exported")


def asked_until_closed(served: Served) -> list[Answer]:
    """Sends requests one after another, each on a new connection, until no server listens."""
    answers = []
    while True:
        try:
            connection = served.connect()
        except OSError:
            return answers
        with connection:
            try:
                connection.sendall(HEAD + IMAGE)
                answers.append(read_answer(connection))
            except (OSError, HTTPException):  # it was in the queue of the kernel, and not accepted
                return answers


def check_same(answers: Sequence[Answer], expected: Answer) -> None:
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert all(answer.body == expected.body for answer in answers)


def test_what_was_accepted_before_sigterm_under_load_is_answered(exported: Path) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(serving(exported))
        expected = served.predict(IMAGE)
        half = [stack.enter_context(served.connect()) for _ in range(64)]
        for number, connection in enumerate(half):  # without any of the body, and with a part of it
            connection.sendall(HEAD + IMAGE[: number % 32])
        idle = stack.enter_context(served.connect())
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(idle).status == 200  # the server has also seen what came before
        with ThreadPoolExecutor(8) as pool:
            busy = [pool.submit(asked_until_closed, served) for _ in range(8)]
            served.until("load", lambda: served.metric("darkroom_predictions_total") > 50)
            served.process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""  # it closes connections without a request: it has begun to stop
            for number, connection in enumerate(half):
                connection.sendall(IMAGE[number % 32 :])
            check_same([read_answer(connection) for connection in half], expected)
            others = [answer for one in busy for answer in one.result()]
        assert len(others) >= 50
        check_same(others, expected)
        assert served.process.wait(60) == 0
        assert served.lines[-1] == "serve: stopped"
        assert not [line for line in served.lines if "Traceback" in line]


def test_a_body_that_never_comes_does_not_keep_the_server(exported: Path) -> None:
    with serving(exported, "--stop-seconds", 1) as served, served.connect() as half:
        half.sendall(HEAD + IMAGE[:20])
        assert served.ask("/health").status == 200
        served.process.send_signal(signal.SIGTERM)
        answer = read_answer(half)
        assert answer.status == 503
        assert json.loads(answer.body)["error"] == "the server is stopping"
        assert served.process.wait(60) == 0


def test_a_second_signal_ends_at_once(exported: Path) -> None:
    with serving(exported) as served, served.connect() as under_way, served.connect() as idle:
        under_way.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(idle).status == 200
        served.process.send_signal(signal.SIGINT)
        assert idle.recv(1) == b""
        assert served.process.poll() is None  # it waits for the request under way
        assert served.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_the_server_imports_no_torch_and_warns_of_wide_addresses(exported: Path) -> None:
    program = (
        "import sys\nfrom darkroom.cli import main\nimport atexit\n"
        "atexit.register(lambda: print(sorted({'torch', 'pandas', 'mlflow'} & {*sys.modules})))\n"
        f"main(['serve', {str(exported)!r}, '--port', '0', '--host', '0.0.0.0'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=-1, stderr=-1, text=True, env={**os.environ}
    )
    with process:
        served = Served(process)
        assert "warning: everybody who reaches" in served.lines[0]
        served.host = "127.0.0.1"
        assert served.predict(IMAGE).status == 200
        assert served.end() == 0
        assert process.stdout
        assert process.stdout.read() == "[]\n"
