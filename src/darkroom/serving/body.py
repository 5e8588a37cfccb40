"""Receives the body of a request within its limits: size, time, and what all requests hold."""

import asyncio

from starlette.requests import Request
from starlette.types import Message

from darkroom.serving.admission import Taken
from darkroom.serving.limits import MIB, MIN_BYTES_PER_SECOND, Limits
from darkroom.serving.refusal import Refusal


def bounded(request: Request, limits: Limits, held: Taken) -> Request:
    """Return a request whose body can be read only within the limits.

    Args:
        held: gets the bytes of the body.

    Raises:
        Refusal: the announced size is too large.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_body_bytes:
        raise _too_large(limits)
    started = asyncio.get_running_loop().time()
    received = 0

    async def receive() -> Message:
        nonlocal received
        seconds = limits.client_seconds + received / MIN_BYTES_PER_SECOND
        try:
            async with asyncio.timeout_at(started + seconds):
                message = await request.receive()
        except TimeoutError:
            raise Refusal(
                408,
                f"the body did not arrive in time: {received:,} bytes in {seconds:.0f} s",
                "send the request again over a faster connection, or send a smaller file",
            ) from None
        size = len(message.get("body", b""))
        received += size
        if received > limits.max_body_bytes:
            raise _too_large(limits)
        held.more(size)
        return message

    return Request(request.scope, receive)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the body is too large: at most {limits.max_body_bytes / MIB:g} MiB are accepted",
        "send a smaller image or fewer images, or start the server with a larger --max-body-mib",
    )
