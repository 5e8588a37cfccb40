"""Requests to the API of a hosting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from darkroom.errors import UserError, brief

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Api:
    """An API that takes and returns JSON."""

    address: str
    headers: Mapping[str, str] = field(repr=False)
    """With the token."""

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """Send ``content`` as JSON; return the answer.

        Raises:
            UserError: the hosting refuses the request, or does not answer.
        """
        body = None if content is None else json.dumps(content).encode()
        return self.send(method, path, body, "application/json")

    def send(self, method: str, path: str, body: bytes | None, content_type: str) -> Any:
        """Send ``body``; return the answer.

        Raises:
            UserError: the hosting refuses the request, or does not answer.
        """
        headers = {**self.headers, "Content-Type": content_type, "User-Agent": "darkroom"}
        request = Request(f"{self.address}{path}", body, headers, method=method)
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                said = brief(error.read(10_000).decode(errors="replace"))
            raise Refused(f"{method} {path}: {error.code} {error.reason}: {said}", error.code) from None
        except (OSError, HTTPException, ValueError) as error:
            raise UserError(f"{method} {path}: {brief(error)}") from None


class Refused(UserError):
    """The hosting answered with an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
