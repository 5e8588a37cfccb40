"""The part of GitHub's and GitLab's APIs that keeps comments and images, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-the-job"


class CommentsApi:
    """Comments by number, files of branches, and the calls that were made."""

    def __init__(self) -> None:
        self.address = ""
        self.comments: dict[int, str] = {}
        self.files: set[str] = set()
        self.refs: set[str] = set()
        self.calls: list[str] = []
        self.status = 0
        """The status of every answer, if it is not 0."""

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET")]

    def answer(self, method: str, target: str, body: bytes, authorised: bool) -> tuple[int, Any]:
        parts = urlsplit(target)
        self.calls.append(f"{method} {parts.path}")
        if self.status or not authorised:
            return self.status or 401, {"message": "not allowed"}
        last = parts.path.rpartition("/")[2]
        if parts.path.endswith("/uploads"):
            assert b"\r\n\r\n\x89PNG" in body
            return 201, {"url": f"/uploads/{len(self.calls)}/plot.png"}
        if "/git/" in parts.path or "/contents/" in parts.path:
            return self._git(method, parts.path, json.loads(body or b"{}"))
        if method == "GET":
            query = parse_qs(parts.query)
            first = (int(query["page"][0]) - 1) * int(query["per_page"][0])
            found = sorted(self.comments.items())[first : first + int(query["per_page"][0])]
            return 200, [{"id": number, "body": text} for number, text in found]
        text = json.loads(body)["body"]
        number = int(last) if last.isdigit() else len(self.comments) + 1
        assert method == "POST" or number in self.comments
        self.comments[number] = text
        return 200, {"id": number}

    def _git(self, method: str, path: str, content: dict[str, Any]) -> tuple[int, Any]:
        if method == "GET":
            there = path.rpartition("/")[2] in self.files | self.refs
            return (200, {}) if there else (404, {"message": "Not Found"})
        if "/contents/" in path:
            assert content["branch"] in self.refs
            self.files.add(path.rpartition("/")[2])
        elif path.endswith("/refs"):
            self.refs.add(content["ref"].removeprefix("refs/heads/"))
        return 201, {"sha": "5" * 40}


@contextmanager
def comments_api() -> Iterator[CommentsApi]:
    api = CommentsApi()

    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization", "")
            status, content = api.answer(self.command, self.path, body, given.endswith(TOKEN))
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", f"{len(answer)}")
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = do_PUT = do_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    api.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
