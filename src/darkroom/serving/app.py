"""The HTTP interface: /predict, /health, /ready, /metrics, /model and a page."""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.serving.body import bounded
from darkroom.serving.limits import COMPUTE_SECONDS
from darkroom.serving.monitoring import CONTENT_TYPE
from darkroom.serving.page import page_headers, render_page
from darkroom.serving.refusal import Refusal, busy, internal_error, json_response
from darkroom.serving.service import Service
from darkroom.serving.uploads import read_uploads

CLIENT_CLOSED = 499
"""Counted, as nginx does, if the client left before its answer."""

MAX_TOP = 1_000

_PATHS = ("/", "/predict", "/health", "/ready", "/metrics", "/model", "/openapi.json")

_log = logging.getLogger("darkroom.serving")

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [
        {
            "name": "top_k",
            "in": "query",
            "description": "number of the most probable classes in `top`",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 5},
        }
    ],
}


def make_app(service: Service) -> ASGIApp:
    """Return the application; every answer that is not a success is JSON."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (service.watch(), service.keep_log())]
        yield
        service.is_stopping = True
        for task in tasks:
            task.cancel()
        service.write_log()

    app = FastAPI(title="darkroom", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(Exception, _fail)

    @app.post("/predict", openapi_extra=_BODY)
    async def predict(request: Request) -> Response:
        """Classify the images, or the rows of a table, in the body."""
        return await _predict(service, request)

    @app.get("/health")
    async def health() -> Response:
        """Answer if the process lives."""
        return json_response({"status": "alive"})

    @app.get("/ready")
    async def ready() -> Response:
        """Answer 200 if a model is loaded and has classified its first images."""
        if service.is_stopping:
            raise busy("the server is stopping")
        return json_response({"status": "ready", "model": service.model.info.short})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counters in the format of Prometheus."""
        return Response(service.engine.monitoring.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/model")
    async def model() -> Response:
        """Describe the model: name, version, digest, classes, metrics."""
        info = service.model.info
        return json_response({**info.short, **info.description})

    @app.get("/", response_class=HTMLResponse)
    async def page() -> Response:
        """Return a page on which an image can be dropped."""
        return HTMLResponse(render_page(service.model), headers=page_headers())

    return _observed(app, service)


async def _predict(service: Service, request: Request) -> Response:
    engine, model = service.engine, service.model
    top_k = _top_k(request.query_params.get("top_k", "5"))
    with engine.bytes.take(0) as held:
        uploads = await read_uploads(
            bounded(request, engine.limits, held), engine.limits, model.raw_types
        )
        try:
            async with asyncio.timeout(COMPUTE_SECONDS):
                answers = await model.answers(uploads, top_k)
        except TimeoutError:
            raise busy(f"no answer was found in {COMPUTE_SECONDS} s") from None
    if (
        "image/png" in request.headers.get("accept", "")
        and len(answers) == 1
        and "mask_png" in answers[0]
    ):
        return Response(base64.b64decode(answers[0]["mask_png"]), media_type="image/png")
    return json_response({"model": model.info.short, "predictions": answers})


def _top_k(given: str) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and 1 <= int(given) <= MAX_TOP):
        raise Refusal(
            422, f"top_k is {given[:20]!r}", f"give an integer from 1 to {MAX_TOP}, or leave it out"
        )
    return int(given)


def _refuse(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response()


def _fail(request: Request, error: Exception) -> Response:
    return internal_error().response()  # the error itself is raised on, and logged in ``_observed``


def _explain(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    what, remedy = {
        404: ("there is nothing at this path", f"use one of {', '.join(_PATHS)}"),
        405: ("the method is not allowed here", "POST to /predict; GET everything else"),
    }.get(error.status_code, (f"{error.detail}", "correct the request"))
    response = json_response({"error": what, "what_to_do": remedy}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _observed(app: ASGIApp, service: Service) -> ASGIApp:
    """Return an application that counts requests, and logs those in which the server fails."""

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, observed_send)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED
        except asyncio.CancelledError:  # the time for requests under way is over
            if not status:
                await busy("the server is stopping").response()(scope, receive, observed_send)
            raise
        except Exception:  # ``_fail`` has answered
            _log.exception("serve: a request failed")
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            service.engine.monitoring.request(path, status, time.monotonic() - started)

    return observed
