"""Requests that no client should send to `darkroom serve`, and who sends them."""

import base64
import io
import itertools
import json
import random
import re
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path

from PIL import Image
from served import Answer, Served, form, read_answer
from served_exports import IMAGES

MIB = 2**20

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


@cache
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


def of_slow_clients(generator: random.Random) -> Iterator[bytes]:
    """Requests whose end never comes; the client waits for an answer."""
    while True:
        for content in IMAGES.values():
            whole = post(content, "image/png")
            yield whole[: generator.randrange(1, len(whole) - len(content) - 1)]  # of the headers
            yield whole[: generator.randrange(len(whole) - len(content), len(whole))]
            yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"


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


WITHOUT_ANSWER = ("http", "huge", "headers")
"""Kinds of which a connection may be closed without an answer, while the client still sends."""

AT_ONCE = 256
"""Number of requests that are in memory."""


def hostile_requests(seed: int = 0, with_slow: bool = False) -> Iterator[Hostile]:
    """Yields requests of all kinds in turn, without end; the same seed gives the same ones."""
    generator = random.Random(seed)
    makers = {**KINDS, **({"slow": of_slow_clients} if with_slow else {})}
    sources = {kind: make(generator) for kind, make in makers.items()}
    for kind in itertools.cycle(sources):
        yield kind, next(sources[kind])


def send(served: Served, content: bytes) -> Answer | None:
    """Sends a request; returns None if the connection was closed without an answer."""
    with served.connect() as connection:
        with suppress(OSError):  # it was closed, maybe after an answer
            connection.sendall(content)
        try:
            return read_answer(connection)
        except (OSError, HTTPException):
            return None


def send_all(
    served: Served, requests: Iterator[Hostile], number: int, clients: int = 8
) -> Iterator[tuple[Hostile, Answer | None]]:
    """Sends requests from several clients at once; yields each with its answer."""
    remaining = itertools.islice(requests, number)
    with ThreadPoolExecutor(clients) as pool:
        while some := list(itertools.islice(remaining, AT_ONCE)):
            yield from zip(some, pool.map(lambda one: send(served, one[1]), some), strict=True)


def is_clear(answer: Answer) -> bool:
    """Whether an answer refuses, says why and what to do, and tells nothing of the server."""
    try:
        found = answer.json
    except ValueError:
        return False
    return (
        400 <= answer.status < 500
        and isinstance(found, dict)
        and set(found) == {"error", "what_to_do"}
        and b"Traceback" not in answer.body
    )


def resident_mib(served: Served, name: str = "VmRSS") -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024
