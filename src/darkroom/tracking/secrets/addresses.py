"""The secrets in addresses, and what of an address is safe to show."""

import re
from collections.abc import Iterator
from typing import NamedTuple, Self
from urllib.parse import unquote_plus

from darkroom.tracking.secrets.names import is_secret_name
from darkroom.tracking.secrets.values import ASSIGNMENT, HIDDEN, hide_assigned, is_worth_hiding

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\S*)")
_TOKEN_FOLLOWS = frozenset(
    {"t", "token", "tokens", "key", "keys", "secret", "secrets", "auth", "access"}
)
"""Segments of a path that are followed by a token."""

_OPTIONS = re.compile(r"[\w.%+-]+=[^&]*(&[\w.%+-]+=[^&]*)*")
_PLACE = re.compile(r"(\[[^]]*\]|[^:/@#]*)(:\d*)?([/,]|$)")
_HOST = re.compile(r"(\[[\w.:%-]*\]|[\w.,:-]*)(:\d*)?")
_DATABASE = re.compile(r"/?[\w.-]*")


def shown_address(uri: str) -> str:
    """Return an address's scheme, host and database, or the path of a file.

    If the parts are ambiguous, everything before the last ``@`` is hidden.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if "@" in uri or "?" in uri or "=" in uri:
            return f"{HIDDEN}@{_clean_host(uri.rpartition('@')[2])}"
        return uri
    place = _Parts.of(rest).place
    if place.startswith("/"):
        return f"{scheme}://{place}"
    host, slash, path = place.partition("/")
    if scheme.lower() in ("http", "https"):
        return f"{scheme}://{_clean_host(host)}" + (f"/{HIDDEN}" if path.strip("/") else "")
    return f"{scheme}://{_clean_host(host)}{slash}{path if _DATABASE.fullmatch(path) else HIDDEN}"


def without_secrets(uri: str) -> str:
    """Return what identifies an address for every user: without login and secret options."""
    scheme, separator, rest = uri.partition("://")
    parts = _Parts.of(rest)
    options = [one for one in parts.query.split("&") if not is_secret_name(one.partition("=")[0])]
    options = [ASSIGNMENT.sub(hide_assigned, unquote_plus(o)) if "%3D" in o else o for o in options]
    kept = "&".join(options)
    return f"{scheme}{separator}{parts.place}{'?' if kept else ''}{kept}".rstrip("/")


class _Parts(NamedTuple):
    """The parts of an address after ``://``."""

    login: str
    place: str
    """Host and port, then the path."""
    query: str

    @classmethod
    def of(cls, rest: str) -> Self:
        """Split an address; a password that should have been quoted ends at the last ``@``."""
        login, (place, _, query) = "", rest.partition("?")
        if not rest.startswith("/"):
            is_regular = not query or _OPTIONS.fullmatch(query)
            has_port = _PLACE.match(place)
            if "@" in rest and not (is_regular and ("@" in place or has_port)):
                login, _, rest = rest.rpartition("@")
                place, _, query = rest.partition("?")
            elif "@" in place:
                login, _, place = place.rpartition("@")
        return cls(login, place.partition("#")[0], query)


def secrets_of_address(rest: str) -> Iterator[str]:
    """Yield the secrets of the address at the start of ``rest``, the text after ``://``."""
    for at in re.finditer("@", rest) if not rest.startswith("/") else ():
        user, _, password = rest[: at.start()].partition(":")
        yield from password_parts(password)
        if not user.isalpha():
            yield from password_parts(user)
        elif not password or password == "x-oauth-basic":  # a token logs in as the user
            yield user
    for option in re.finditer(r"[?&;]([\w.-]+)=(?=(.*))([^&;#]*)", rest):
        if is_secret_name(option[1]):
            yield from password_parts(option[2])
            yield from password_parts(option[3])
    if not rest.startswith("/"):
        yield from _tokens_in_path(rest)


def password_parts(text: str) -> Iterator[str]:
    """Yield a password, and its parts, which libraries may mistake for host, port or path."""
    yield text
    for separator in re.finditer(r"[/?#@:'\"\\\s&;,]", text):
        yield text[: separator.start()]
        yield text[separator.end() :]
    yield from re.split(r"[/?#@:'\"\\\s&;,]", text)


def path_segments(rest: str) -> list[str]:
    """Return the segments of the path of an address, given what follows ``://``."""
    return re.split(r"[?#]", _Parts.of(rest).place.partition("/")[2], maxsplit=1)[0].split("/")


def _tokens_in_path(rest: str) -> Iterator[str]:
    segments = path_segments(rest)
    for before, segment in zip(["", *segments], segments, strict=False):
        if before.lower() in _TOKEN_FOLLOWS or is_token(segment):
            yield segment


def is_token(segment: str, least: int = 20) -> bool:
    """Return whether a segment of a path looks like a token rather than a name."""
    has_digit = any(char.isdigit() for char in segment)
    return len(segment) >= least and has_digit and bool(re.fullmatch(r"[A-Za-z0-9_=~-]+", segment))


def hide_in_address(address: re.Match[str]) -> str:
    """Return a match of ``ADDRESS`` without the login, the query, and tokens in the path."""
    scheme, rest = address[1], address[2]
    parts = _Parts.of(rest)
    if parts.login:
        rest = f"{HIDDEN}@{rest[len(parts.login) + 1 :]}"
    elif re.match(r"[^/?#:\s\[\]'\"]+:(?!\d+\b|\W|$)", rest):  # the text ends before the @
        return f"{scheme}://{HIDDEN}"
    is_file = rest.startswith("/")
    for token in () if is_file else set(_tokens_in_path(rest)):
        if is_worth_hiding(token):
            rest = rest.replace(f"/{token}", f"/{HIDDEN}")
    if "=" in parts.query:
        end = re.search(r"[)\]}>'\".,;:]*$", parts.query)
        rest = f"{rest.partition('?')[0]}?{HIDDEN}{end[0] if end else ''}"
    return f"{scheme}://{rest}"


def _clean_host(text: str) -> str:
    host = re.split(r"[/?#]", text, maxsplit=1)[0]
    return host if _HOST.fullmatch(host) else HIDDEN
