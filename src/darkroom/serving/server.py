"""Runs the application in uvicorn, and stops it without losing a request."""

import ipaddress
import os
import socket
import threading
from types import FrameType

import uvicorn

from darkroom.errors import UserError
from darkroom.serving.app import make_app
from darkroom.serving.limits import KEEP_ALIVE_SECONDS, MAX_HEADER_BYTES, Limits
from darkroom.serving.protocol import BoundedProtocol
from darkroom.serving.service import Service, described, say

BACKLOG = 2048

_GRACE_SECONDS = 2
"""Time for threads to end, once no request is left."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that clients can connect to.

    Raises:
        UserError: the address is unknown, in use or not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be used ({error.strerror or error}); choose another "
            "--port, or 0 for any that is free"
        ) from None
    listening.setblocking(False)
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine can connect."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """Return the address of the server's page."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests under way; a second one ends at once."""
    limits = service.engine.limits
    config = uvicorn.Config(
        make_app(service),
        http=_protocol(limits),
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(round(limits.stop_seconds), 1),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    if not is_loopback(listening):
        say(
            f"serve: warning: everybody who reaches {address_of(listening)} can use the model, since "
            "the server asks for no password; see docs/serve.md for a proxy that does"
        )
    say(f"serve: {described(service.model)} on {address_of(listening)}; Ctrl-C stops it")
    server = _Server(config)
    server.run(sockets=[listening])
    service.engine.close()
    say("serve: stopped")


def _protocol(limits: Limits) -> type[BoundedProtocol]:
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits})


class _Server(uvicorn.Server):
    """Ends with status 0 after a signal: uvicorn would raise it once more, after everything is done."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        service_ends_in = (self.config.timeout_graceful_shutdown or 0) + _GRACE_SECONDS
        # a thread that decodes cannot be interrupted, and Python would wait for it
        last = threading.Timer(service_ends_in, os._exit, (0,))
        last.daemon = True
        last.start()
