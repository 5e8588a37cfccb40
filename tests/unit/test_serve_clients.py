"""`darkroom serve` with clients that are slow, silent, endless or too many: each is told, none stays."""

import socket
from collections.abc import Iterator

import pytest
from served import Served, check_refusal, form, read_answer, serving
from served_exports import draw, write_export

IMAGE = draw(0)

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that allows little."""
    exported = write_export(tmp_path_factory.mktemp("clients") / "export")
    options = ("--client-seconds", 2, "--max-waiting", 2, "--max-body-mib", 1, "--max-connections", 8)
    with serving(exported, *options) as served:
        yield served


def sends_until_closed(connection: socket.socket, chunk: bytes) -> bool:
    try:
        while True:
            connection.sendall(chunk)
    except OSError:
        return True


def test_slow_silent_and_endless_clients_are_told_why_and_let_go(tight: Served) -> None:
    connections = [tight.connect() for _ in range(5)]
    _silent, headers, body, chunks, endless = connections
    headers.sendall(HEAD)  # the empty line never comes
    body.sendall(HEAD + b"Content-Length: 900\r\n\r\n" + IMAGE[:50])
    chunks.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n\x89PNG\r")
    endless.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    for _ in range(20):
        endless.sendall(chunk)  # 1.25 MiB together
    check_refusal(read_answer(endless), 413, "at most 1 MiB")
    assert tight.predict(IMAGE).status == 200  # the others do not wait for them
    check_refusal(read_answer(headers), 408, "the headers did not arrive in 2 s")
    for slow in (body, chunks):
        check_refusal(read_answer(slow), 408, "the body did not arrive in time")
    assert sends_until_closed(endless, chunk)  # discarded for a while, not for ever
    for connection in connections[:4]:
        assert connection.recv(1) == b""  # closed by the server; the silent one without an answer
    for connection in connections:
        connection.close()


def test_connections_above_the_limit_are_told_to_come_back(tight: Served) -> None:
    connections = [tight.connect() for _ in range(8)]
    with tight.connect() as ninth:
        answer = read_answer(ninth)
    check_refusal(answer, 503, "too many connections: at most 8")
    for connection in connections:
        connection.close()
    tight.until("room again", lambda: tight.ask("/health").status == 200)


@pytest.mark.slow
def test_a_queue_that_is_full_says_when_to_come_back(tight: Served) -> None:
    body, kind = form(*[("x.png", IMAGE)] * 3)
    answer = tight.ask("/predict", body, content_type=kind)
    check_refusal(answer, 503, "at most 2 images")
    assert answer.headers["retry-after"] == "1"
    body, kind = form(*[("x.png", IMAGE)] * 2)
    assert tight.ask("/predict", body, content_type=kind).status == 200
