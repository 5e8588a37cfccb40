"""Answers to requests that are not served: always JSON, with what is wrong and what to do."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: the HTTP status, 4xx or 503.
        error: what is wrong; never a path of this machine.
        what_to_do: in a sentence.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(self, status: int, error: str, what_to_do: str, retry_after: int | None = None) -> None:
        super().__init__(status, error)
        self.status, self.error, self.what_to_do = status, error, what_to_do
        self.retry_after = retry_after

    def content(self) -> dict[str, str]:
        """Return the body of the answer."""
        return {"error": self.error, "what_to_do": self.what_to_do}

    def response(self) -> Response:
        """Return the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after}"}
        return json_response(self.content(), self.status, headers)


def json_bytes(content: Any) -> bytes:
    """Return JSON as UTF-8. Text that UTF-8 cannot hold (half of a surrogate pair) is escaped."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(json_bytes(content), status, {**(headers or {})}, "application/json")


def internal_error() -> Refusal:
    """Return the answer to a request that failed because of a fault of the server."""
    return Refusal(500, "the server failed", "the log of the server says why; report it to its owner")


def busy(error: str) -> Refusal:
    """Return the answer to a request for which there is no room now."""
    return Refusal(503, error, "send the request again later", retry_after=1)
