"""HTTP connections with limits that uvicorn lacks: slow and silent clients, and refusals in JSON.

uvicorn waits for ever for the headers of a request, and for the rest of a body that was refused.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.serving.limits import MAX_HEADER_BYTES, Limits
from darkroom.serving.refusal import Refusal, busy, json_bytes

_TOO_LARGE = 431
"""The status that h11 suggests for headers that are too large."""


class BoundedProtocol(H11Protocol):
    """A connection that is closed if its client is too slow, or if there are too many of them.

    ``limits`` is set on a subclass, since uvicorn makes the instances.
    """

    limits: Limits

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(busy(f"too many connections: at most {self.limits.max_connections:,}"))
            return
        self._start(self.limits.client_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._has_begun = True
        cycle = self.cycle
        super().data_received(data)
        if self.cycle is not cycle:  # the headers are complete; the body has a deadline of its own
            self._stop()
        elif self._is_between_requests() and self._deadline is None:
            self._start(self.limits.client_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._has_begun = False
        if self.transport.is_closing():
            # a client that does not read its answer does not keep the connection
            self._start(self.limits.client_seconds)
        elif self.conn.their_state is h11.SEND_BODY:
            # refused before its end: what still comes is discarded, so that the client, which may read
            # only once it has sent everything, gets the answer
            self._unset_keepalive_if_required()
            self._start(self.limits.client_seconds)

    def timeout_keep_alive_handler(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:
            return  # its own deadline is set
        super().timeout_keep_alive_handler()
        self._start(self.limits.client_seconds)

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        if status == _TOO_LARGE:
            refusal = Refusal(
                status,
                f"the headers are too large: at most {MAX_HEADER_BYTES // 1024} KiB are accepted",
                "send fewer or shorter headers",
            )
        else:
            refusal = Refusal(400, "the request is not HTTP/1.1", "correct it, or use an HTTP client")
        self._refuse(refusal)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            self.transport.abort()  # what the client has not read by now is dropped
        elif self._is_between_requests() and self._has_begun and self.conn.our_state is h11.IDLE:
            seconds = self.limits.client_seconds
            self._refuse(
                Refusal(
                    408,
                    f"the headers did not arrive in {seconds:g} s",
                    "send the request again over a faster connection",
                )
            )
        else:
            self.transport.close()
            self._start(self.limits.client_seconds)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application has nothing more to send
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json_bytes(refusal.content())
            response = h11.Response(
                status_code=refusal.status,
                headers=[
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                    (b"connection", b"close"),
                    *([(b"retry-after", b"%d" % refusal.retry_after)] if refusal.retry_after else []),
                ],
            )
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._start(self.limits.client_seconds)
