"""From the body of a request to the images or the table in it."""

import json
import logging
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from darkroom.errors import listed
from darkroom.escape import for_line
from darkroom.prediction.answers import from_base64
from darkroom.serving.limits import MAX_FIELDS, MAX_JSON_VALUES, Limits
from darkroom.serving.refusal import Refusal

MULTIPART, JSON = "multipart/form-data", "application/json"

# what curl announces for --data-binary unless told
_UNTOLD = ("", "application/x-www-form-urlencoded")

# it warns of each malformed form, so that any client could fill the log
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

MAX_NAME = 200
"""Maximum number of characters of a file's name in an answer."""


@dataclass(frozen=True)
class Upload:
    """A file that a client sent, or the rows that it sent as JSON."""

    name: str
    """As the client calls it, for answers; nothing is ever read from it or written to it."""
    content: bytes
    media_type: str = ""


async def read_uploads(request: Request, limits: Limits, raw_types: Iterable[str]) -> list[Upload]:
    """Return the files in a request.

    Args:
        request: as ``bounded`` returns it.
        raw_types: media types whose body is one file.

    Raises:
        Refusal: the body is of another type, damaged, empty, or has too many files.
    """
    declared = request.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if media_type == MULTIPART:
        return await _files_of_form(request, limits)
    if media_type == JSON:
        return _files_of_json(await request.body(), limits)
    if media_type in _UNTOLD or _matches(media_type, raw_types):
        content = await request.body()
        if not content:
            raise Refusal(422, "the body is empty", "send a file as the body of the request")
        return [Upload("body", content, media_type)]
    raise Refusal(
        415,
        f"the content type {_quoted(media_type)} is not accepted",
        f"use one of {listed([MULTIPART, JSON, *raw_types])}",
    )


def check_number(number: int, limits: Limits) -> None:
    """Raise Refusal if a request has too many files."""
    if number > limits.max_files:
        raise Refusal(
            413,
            f"the request has too many files: at most {limits.max_files} are accepted",
            "send them in several requests",
        )


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON body; raise Refusal if it is damaged or has too many values."""
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_JSON_VALUES:
        raise Refusal(
            413,
            f"the JSON has too many values: at most {MAX_JSON_VALUES:,} are accepted",
            "send fewer rows per request",
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(
            422, "the body is not JSON", "send valid JSON in UTF-8, or declare another content type"
        ) from None


class _InMemory(MultiPartParser):
    """Keeps files in memory, which is bounded, instead of writing large ones to a disk."""

    spool_max_size = 2**62


async def _files_of_form(request: Request, limits: Limits) -> list[Upload]:
    try:
        async with aclosing(request.stream()) as stream:
            # one more than allowed, so that the refusal is ours
            parser = _InMemory(
                request.headers, stream, max_files=limits.max_files + 1, max_fields=MAX_FIELDS
            )
            form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            check_number(limits.max_files + 1, limits)
        raise Refusal(
            422,
            f"the form cannot be read ({error.message.rstrip('.')})",
            "send a form as `curl -F file=@NAME` does",
        ) from None
    return await _files(form, limits)


async def _files(form: FormData, limits: Limits) -> list[Upload]:
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    check_number(len(files), limits)
    if not files:
        raise Refusal(
            422, "the form has no file", "send a file as `curl -F file=@NAME` does, with the @"
        )
    uploads = []
    for position, file in enumerate(files, start=1):
        name = shown_name(file.filename or f"file {position}")
        uploads.append(Upload(name, await file.read(), file.content_type or ""))
        await file.close()
    return uploads


def _files_of_json(content: bytes, limits: Limits) -> list[Upload]:
    value = parse_json(content)
    if isinstance(value, dict) and "rows" in value:
        return [Upload("rows", content, JSON)]
    given = value.get("images", value.get("image")) if isinstance(value, dict) else None
    if isinstance(given, str | dict):
        given = [given]
    if not isinstance(given, list) or not given:
        raise _not_images()
    check_number(len(given), limits)
    return [_image_of_json(one, position) for position, one in enumerate(given, start=1)]


def _image_of_json(given: Any, position: int) -> Upload:
    name, data = f"image {position}", given
    if isinstance(given, dict):
        name, data = given.get("name", name), given.get("data")
    if not isinstance(name, str) or not isinstance(data, str):
        raise _not_images()
    try:
        content = from_base64(data)
    except ValueError:
        raise Refusal(
            422, f"image {position} is not base64", "encode the bytes of the file as base64"
        ) from None
    return Upload(shown_name(name), content)


def _not_images() -> Refusal:
    return Refusal(
        422,
        "the JSON has no images as expected",
        'send {"images": ["BASE64", ...]} or {"images": [{"name": "NAME", "data": "BASE64"}, ...]}',
    )


def shown_name(name: str) -> str:
    """Return the name that a client gave a file, on one line and not too long."""
    return for_line(name[:MAX_NAME])


def _quoted(media_type: str) -> str:
    return repr(media_type[:100])


def _matches(media_type: str, allowed: Iterable[str]) -> bool:
    return any(
        media_type.startswith(one.removesuffix("*")) if one.endswith("*") else media_type == one
        for one in allowed
    )
