"""Keeps passwords and tokens in the environment and in DVC's and git's settings from being shown.

``redact`` hides them in a text, and ``shown_address`` shortens an address to what is safe to show.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_SECRET_WORDS = frozenset(
    {
        "pass",
        "pwd",
        "pw",
        "pat",
        "key",
        "keys",
        "cred",
        "creds",
        "auth",
        "dsn",
        "sas",
        "signature",
        "sig",
    }
    | {"bearer", "hmac", "jwt", "otp", "totp", "mfa", "pin", "salt", "psw", "pswd", "tkn", "netrc"}
    | {"authn", "authorization", "oauth", "oauth2", "csrf"}
)
"""Words in a name that mark a secret; ``_SECRET_PARTS`` mark one anywhere in a name."""

_SECRET_PARTS = re.compile(
    r"passw|passphrase|secret|credential|token|cookie|api_?key|access_?key|private_?key|account_?key"
    r"|(shared|master|pass|auth|ssh|sign(ing)?|deploy|encrypt(ion)?|hmac|crypt|licen[cs]e)_?key"
    r"|conn(ection)?_?str(ing)?|(pass|access|security|verification|pin)_?code|sess(ion)?_?id|webhook"
    r"|personal_?access|kennwort|contrase(n|ñ)a|mot_?de_?passe|(pass|pwd|pw)$",
    re.IGNORECASE,
)
_NO_SECRET_NAMES = frozenset({"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "GIT_ASKPASS", "SSH_ASKPASS"})
_NO_SECRETS = frozenset(
    {
        "mlflow",
        "darkroom",
        "postgres",
        "mysql",
        "password",
        "secret",
        "default",
        "localhost",
        "127.0.0.1",
    }
    | {"disable", "disabled", "enable", "enabled", "require", "required", "optional", "prefer", "allow"}
)
"""Values that are never hidden: words of settings or everyday texts, which would become unreadable."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\S*)")
_TOKEN_FOLLOWS = frozenset(
    {"t", "token", "tokens", "key", "keys", "secret", "secrets", "auth", "access"}
)
"""Segments of a path that are followed by a token."""

_TRACKING = "MLFLOW_TRACKING_URI"
"""In the path of this address, less must look like a token: proxies of MLflow take one there."""

_OPTIONS = re.compile(r"[\w.%+-]+=[^&]*(&[\w.%+-]+=[^&]*)*")
_PLACE = re.compile(r"(\[[^]]*\]|[^:/@#]*)(:\d*)?([/,]|$)")
_HOST = re.compile(r"(\[[\w.:%-]*\]|[\w.,:-]*)(:\d*)?")
_DATABASE = re.compile(r"/?[\w.-]*")
_ASSIGNMENT = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]*)(?:["']\s*:|["']?\s*=)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|\{[^}]*\}|[^\s;&,"']+)"""
)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)(['\"]?\s*[:=]\s*)(?:(?:b?['\"])?)[^\r\n]+",
    re.IGNORECASE,
)
_KNOWN_TOKENS = re.compile(
    r"\b(?:gh[opsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|hf_\w{16,}|sk-[\w-]{16,}|xox[abeprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|npm_\w{16,}|pypi-[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
"""Tokens of services that start with a known prefix."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
LEAST_LETTERS = 6
"""Minimum length of a secret that consists of letters; shorter ones would hide parts of words."""

LEAST_CHARACTERS = 4
LONG_CHARACTERS = 12
"""Minimum length of a secret that is also hidden inside longer words."""

MAX_SETTINGS_BYTES = 1 << 20


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the text with secrets hidden.

    Hidden are the values of variables whose names mark them as secret (password, token, key, ...),
    passwords and tokens in addresses and connection strings in any variable and in the project's DVC
    and git settings, in any spelling; and in any address in the text, the login, the query, and path
    segments that look like tokens.

    Args:
        environ: replaces the environment and the settings.
    """
    if environ is None:
        secrets = _secrets((*sorted(os.environ.items()), *_settings(os.getcwd())))
    else:
        secrets = _secrets(tuple(sorted(environ.items())))
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    if secrets:
        text = secrets.sub(HIDDEN, text)
    text = _ADDRESS.sub(_hide_in_address, text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _ASSIGNMENT.sub(_hide_assigned, text)
    return _KNOWN_TOKENS.sub(HIDDEN, text)


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
    options = [_ASSIGNMENT.sub(_hide_assigned, unquote_plus(o)) if "%3D" in o else o for o in options]
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


def is_secret_name(name: str) -> bool:
    """Return whether a variable or option of this name holds a secret."""
    words = re.split(r"[\W_]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return not _SECRET_WORDS.isdisjoint(words) or bool(_SECRET_PARTS.search(name))


@lru_cache(maxsize=8)
def _secrets(named_values: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    """Return a pattern of all secrets in the values, in all spellings; None if there are none."""
    found: set[str] = set()
    for name, value in named_values:
        is_file = os.path.isabs(value) and os.path.exists(value)
        if is_secret_name(name) and name not in _NO_SECRET_NAMES and not is_file:
            found |= {value, value.strip(), *value.splitlines()}
        found |= set(_secrets_within(value))
        if name == _TRACKING and re.match("https?://", value, re.IGNORECASE):
            found |= {part for part in _path(value.partition("://")[2]) if _is_token(part, 8)}
    spellings = {
        spelling for secret in found if _is_worth_hiding(secret) for spelling in _spelled(secret)
    }
    patterns = [_pattern(one) for one in sorted(spellings, key=len, reverse=True)]
    return re.compile("|".join(patterns)) if patterns else None


def _secrets_within(value: str) -> Iterator[str]:
    """Yield the secrets in addresses, connection strings and keys."""
    once = unquote_plus(value)
    for text in {value, once, unquote_plus(once)}:
        for key in _PRIVATE_KEY.findall(text):
            yield from key.splitlines()[1:-1]
        for assignment in _ASSIGNMENT.finditer(text):
            if is_secret_name(assignment["name"]):
                yield from _password(assignment["value"].strip("\"'{}"))
        for line in text.splitlines():
            for scheme in re.finditer("://", line):
                yield from _secrets_of_address(line[scheme.end() :])
            if "://" not in line and (login := re.match(r"/*[^\s/:@]+:(\S+)@", line)):
                yield from _password(login[1])


def _secrets_of_address(rest: str) -> Iterator[str]:
    """Yield the secrets of the address at the start of ``rest``, the text after ``://``."""
    for at in re.finditer("@", rest) if not rest.startswith("/") else ():
        user, _, password = rest[: at.start()].partition(":")
        yield from _password(password)
        if not user.isalpha():
            yield from _password(user)
        elif not password or password == "x-oauth-basic":  # a token logs in as the user
            yield user
    for option in re.finditer(r"[?&;]([\w.-]+)=(?=(.*))([^&;#]*)", rest):
        if is_secret_name(option[1]):
            yield from _password(option[2])
            yield from _password(option[3])
    if not rest.startswith("/"):
        yield from _tokens_in_path(rest)


def _password(text: str) -> Iterator[str]:
    """Yield a password, and its parts, which libraries may mistake for host, port or path."""
    yield text
    for separator in re.finditer(r"[/?#@:'\"\\\s&;,]", text):
        yield text[: separator.start()]
        yield text[separator.end() :]
    yield from re.split(r"[/?#@:'\"\\\s&;,]", text)


def _path(rest: str) -> list[str]:
    """Return the segments of the path of an address, given what follows ``://``."""
    return re.split(r"[?#]", _Parts.of(rest).place.partition("/")[2], maxsplit=1)[0].split("/")


def _tokens_in_path(rest: str) -> Iterator[str]:
    segments = _path(rest)
    for before, segment in zip(["", *segments], segments, strict=False):
        if before.lower() in _TOKEN_FOLLOWS or _is_token(segment):
            yield segment


def _is_token(segment: str, least: int = 20) -> bool:
    """Return whether a segment of a path looks like a token rather than a name."""
    has_digit = any(char.isdigit() for char in segment)
    return len(segment) >= least and has_digit and bool(re.fullmatch(r"[A-Za-z0-9_=~-]+", segment))


def _is_worth_hiding(secret: str) -> bool:
    if secret.lower() in _NO_SECRETS or len(secret) < LEAST_CHARACTERS or secret.startswith("-----"):
        return False
    return len(secret) >= LEAST_LETTERS or not secret.isalpha()


def _spelled(secret: str) -> set[str]:
    """Return a secret as it is, and as addresses, Python, JSON, shells and Markdown quote it."""
    spellings = set()
    for plain in (secret, unquote(secret), unquote_plus(secret)):
        encoded = plain.encode("utf-8", "surrogateescape")
        spellings |= {
            plain,
            quote(encoded),
            quote(encoded, safe=""),
            quote_plus(encoded),
            repr(plain)[1:-1],
            json.dumps(plain)[1:-1],
            re.sub(r"([\\|`*_<>\[\]#~])", r"\\\1", plain),
            plain.encode("utf-8", "backslashreplace").decode(),
        }
    return {spelling for spelling in spellings if _is_worth_hiding(spelling)}


def _pattern(secret: str) -> str:
    pattern = re.escape(secret)
    if secret.isalnum() and len(secret) < LONG_CHARACTERS:
        return rf"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{{2}})){pattern}(?![A-Za-z0-9])"  # %3D is a =
    return pattern


def _hide_in_address(address: re.Match[str]) -> str:
    scheme, rest = address[1], address[2]
    parts = _Parts.of(rest)
    if parts.login:
        rest = f"{HIDDEN}@{rest[len(parts.login) + 1 :]}"
    elif re.match(r"[^/?#:\s\[\]'\"]+:(?!\d+\b|\W|$)", rest):  # the text ends before the @
        return f"{scheme}://{HIDDEN}"
    is_file = rest.startswith("/")
    for token in () if is_file else set(_tokens_in_path(rest)):
        if _is_worth_hiding(token):
            rest = rest.replace(f"/{token}", f"/{HIDDEN}")
    if "=" in parts.query:
        end = re.search(r"[)\]}>'\".,;:]*$", parts.query)
        rest = f"{rest.partition('?')[0]}?{HIDDEN}{end[0] if end else ''}"
    return f"{scheme}://{rest}"


def _hide_assigned(assignment: re.Match[str]) -> str:
    name, value = assignment["name"], assignment["value"]
    if not is_assigned_secret(name) or HIDDEN in value or value.strip("\"'").lower() in _NO_SECRETS:
        return assignment[0]
    quotes = value[0] if value[0] in "\"'" and value[0] == value[-1] else ""
    return assignment[0].removesuffix(value) + f"{quotes}{HIDDEN}{quotes}"


def is_assigned_secret(name: str) -> bool:
    """Return whether ``name=value`` in a text is a secret; ``key=lambda`` and ``tokens=3`` are not."""
    words = {"key", "keys", "token", "tokens", "sig", "signature", "pin", "pat", "pw", "auth"}
    return name.lower() not in words - {"token"} and is_secret_name(name)


def _clean_host(text: str) -> str:
    host = re.split(r"[/?#]", text, maxsplit=1)[0]
    return host if _HOST.fullmatch(host) else HIDDEN


@lru_cache(maxsize=8)
def _settings(folder: str) -> tuple[tuple[str, str], ...]:
    """Return names and values in the DVC and git settings of the project that contains ``folder``."""
    found = []
    for parent in (Path(folder), *Path(folder).parents):
        for name in (".dvc/config", ".dvc/config.local", ".git/config"):
            try:
                with (parent / name).open(encoding="utf-8", errors="surrogateescape") as file:
                    lines = file.read(MAX_SETTINGS_BYTES).splitlines()
            except OSError:
                continue
            for line in lines:
                option, _, value = line.partition("=")
                found.append((option.strip(), value.strip().strip("\"'")))
    return tuple(found)
