"""300 hostile requests to one `darkroom serve`: all refused, and afterwards it answers as before."""

import base64
import io
import json
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from PIL import Image
from served import Answer, Served, form, read_answer, serving
from served_exports import IMAGES, NAMES, draw, write_export

from darkroom.prediction.predictor import Predictor

pytestmark = pytest.mark.slow

MIB = 2**20

NUMBER = 300

Hostile = tuple[str, bytes]
"""A kind, and the bytes of a whole request."""

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


def post(body: bytes, content_type: str, *more: str) -> bytes:
    lines = [f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more, "", ""]
    return HEAD + "\r\n".join(lines).encode("latin-1") + body


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def bombs() -> list[bytes]:
    """Images that are small as files and huge in memory, or say that they are."""
    whole = io.BytesIO()
    Image.new("L", (8_000, 8_000)).save(whole, "PNG")
    frames = io.BytesIO()
    Image.new("P", (6_000, 6_000)).save(frames, "GIF")
    zeros = zlib.compress(bytes(50 * MIB), 9)
    return [
        whole.getvalue(),
        frames.getvalue(),
        png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zeros)),
        png(60_000, 60_000, chunk(b"IDAT", b"")),
        png(10, 10, chunk(b"zTXt", b"a\0\0" + zeros), chunk(b"IDAT", b"x")),
        b"P6 99999 99999 255\n" + bytes(99),
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    ]


def of_bombs(generator: random.Random) -> Iterator[bytes]:
    while True:
        for bomb in bombs():
            yield post(bomb, "image/png")
            yield post(*form((f"{generator.random()}", bomb)))


def of_truncated(generator: random.Random) -> Iterator[bytes]:
    while True:
        for content in IMAGES.values():
            yield post(content[: generator.randrange(1, len(content) // 2)], "application/octet-stream")


def of_huge_bodies(generator: random.Random) -> Iterator[bytes]:
    while True:
        yield post(bytes(2 * MIB), "image/png")
        yield HEAD + b"Content-Type: image/png\r\nContent-Length: 99999999999999\r\n\r\n"
        yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"20000\r\n%b\r\n" % bytes(2**17) * 12
        yield post(*form(*[("a", bytes(20_000))] * 60))
        yield post(*form(*[("a", b"")] * 2_000))


def of_paths(generator: random.Random) -> Iterator[bytes]:
    names = (
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\x\\..\\y",
        "a\0.png",
        "\x1b[2J",
        "%2e%2e/x",
        "a" * 5_000,
    )
    while True:
        for name in names:
            yield post(*form((name, b"nothing")))
            given = {"images": [{"name": name, "data": base64.b64encode(b"nothing").decode()}]}
            yield post(json.dumps(given).encode(), "application/json")
        for path in (
            "/../../etc/passwd",
            "//predict",
            "/predict%00",
            "/model/..%2f..%2f",
            "/static/page.js",
        ):
            yield f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield b"GET /etc/passwd?top_k=../../x HTTP/1.1\r\nHost: x\r\n\r\n"


def of_wrong_types(generator: random.Random) -> Iterator[bytes]:
    types = ("text/html", "text/csv", "image", "multipart/form-data", "multipart/form-data; boundary=",
             "multipart/mixed; boundary=edge", "application/json", "application/xml", "a" * 9_000,
             "image/svg+xml")  # fmt: skip
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    while True:
        for one in types:
            yield post(svg, one)


def of_bad_json(generator: random.Random) -> Iterator[bytes]:
    while True:
        for text in (
            b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"images": 3}', b'{"images": [[]]}', b"NaN",
            b"[" * 200_000, b'{"a":' * 100_000, b'{"images": ["' + b"A" * 99_999 + b'"]}', b"9" * 90_000,
            b'{"images": ["\\ud800"]}', b'{"image": {"name": "\\ud800", "data": "AAAA"}}',
            b'{"images": ["AAA"]}', b'{"images": ["data:;base64,%%%"]}', b'{"rows": [{"a": 1}]}',
            json.dumps({"images": ["AAAA"] * 65}).encode(),
        ):  # fmt: skip
            yield post(text, "application/json")


def of_many_headers(generator: random.Random) -> Iterator[bytes]:
    while True:
        number = generator.randrange(3_000, 9_000)
        yield post(b"nothing", "image/png", *(f"X-{n}: {n}" for n in range(number)))
        yield post(b"nothing", "image/png", "X-Long: " + "a" * generator.randrange(40_000, 200_000))
        yield b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def of_broken_http(generator: random.Random) -> Iterator[bytes]:
    while True:
        yield generator.randbytes(generator.randrange(1, 500)) + b"\r\n\r\n"
        yield b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"
        yield b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
        yield b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        yield b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
        yield b"GET / HTTP/one\r\nHost: x\r\n\r\n"
        yield b"GET / HTTP/1.1\r\n\r\n"
        yield b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"
        yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"  # TLS
        yield b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"
        yield b"DELETE /predict HTTP/1.1\r\nHost: x\r\n\r\n"


KINDS = {
    "bombs": of_bombs,
    "truncated": of_truncated,
    "huge": of_huge_bodies,
    "paths": of_paths,
    "types": of_wrong_types,
    "json": of_bad_json,
    "headers": of_many_headers,
    "http": of_broken_http,
}


def hostile_requests() -> list[Hostile]:
    generator = random.Random(0)
    sources = {kind: make(generator) for kind, make in KINDS.items()}
    kinds = list(sources)
    return [(kind, next(sources[kind])) for kind in (kinds[n % len(kinds)] for n in range(NUMBER))]


def send(served: Served, content: bytes) -> Answer | None:
    """Sends a request; returns None if the connection was closed without an answer."""
    with served.connect() as connection:
        with suppress(OSError):  # it was closed, maybe after an answer
            connection.sendall(content)
        try:
            return read_answer(connection)
        except (OSError, HTTPException):
            return None


def resident_mib(served: Served, name: str = "VmRSS") -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory in /proc")
def test_300_hostile_requests_are_refused_and_change_nothing(tmp_path: Path) -> None:
    exported = write_export(tmp_path / "export")
    image = tmp_path / "image.png"
    image.write_bytes(draw(0))
    [expected] = Predictor(exported).predict([image], len(NAMES))
    requests = hostile_requests()
    folder = tmp_path / "cwd"
    folder.mkdir()
    options = ("--max-body-mib", 1, "--max-pixels", 1_000_000, "--client-seconds", 10)
    with serving(exported, *options, cwd=folder, DARKROOM_WORKERS="2", TMPDIR=f"{folder}") as served:
        before = resident_mib(served)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda one: send(served, one[1]), requests))
        statuses: Counter[tuple[str, int]] = Counter()
        for (kind, content), answer in zip(requests, answers, strict=True):
            statuses[kind, answer.status if answer else 0] += 1
            if answer is None:
                assert kind in ("http", "huge", "headers"), content[:300]
                continue
            assert 400 <= answer.status < 500, (kind, answer, content[:300])
            assert set(answer.json) == {"error", "what_to_do"}
            assert "Traceback" not in answer.body.decode()
            assert str(tmp_path) not in answer.body.decode()
        assert sum(statuses.values()) == NUMBER
        assert {kind for kind, _ in statuses} == set(KINDS)
        assert sum(n for (_, status), n in statuses.items() if not status) < NUMBER / 20, statuses
        found = served.predict(image.read_bytes(), "?top_k=99").prediction
        assert [one["probability"] for one in found["top"]] == list(expected.probabilities)
        assert served.metric("darkroom_images_waiting") == 0
        # 8 bodies of 1 MiB, 2 images of a million pixels, and what an allocator keeps
        assert resident_mib(served, "VmHWM") - before < 150
        assert served.lines[1:] == []  # nothing failed, and no client writes to the log
        assert not list(folder.iterdir())
        assert served.end() == 0
