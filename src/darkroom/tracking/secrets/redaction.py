"""Hides secrets in a text: those of the environment and of settings, and what looks like one."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from darkroom.tracking.secrets.addresses import (
    ADDRESS,
    hide_in_address,
    is_token,
    password_parts,
    path_segments,
    secrets_of_address,
)
from darkroom.tracking.secrets.names import is_secret_name, is_secret_variable
from darkroom.tracking.secrets.settings import settings_above
from darkroom.tracking.secrets.values import ASSIGNMENT, HIDDEN, hide_assigned, is_worth_hiding

_TRACKING = "MLFLOW_TRACKING_URI"
"""In the path of this address, less must look like a token: proxies of MLflow take one there."""

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

LONG_CHARACTERS = 12
"""Minimum length of a secret that is also hidden inside longer words."""


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
        secrets = _secrets((*sorted(os.environ.items()), *settings_above(os.getcwd())))
    else:
        secrets = _secrets(tuple(sorted(environ.items())))
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    if secrets:
        text = secrets.sub(HIDDEN, text)
    text = ADDRESS.sub(hide_in_address, text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = ASSIGNMENT.sub(hide_assigned, text)
    return _KNOWN_TOKENS.sub(HIDDEN, text)


@lru_cache(maxsize=8)
def _secrets(named_values: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    """Return a pattern of all secrets in the values, in all spellings; None if there are none."""
    found: set[str] = set()
    for name, value in named_values:
        is_file = os.path.isabs(value) and os.path.exists(value)
        if is_secret_variable(name) and not is_file:
            found |= {value, value.strip(), *value.splitlines()}
        found |= set(_secrets_within(value))
        if name == _TRACKING and re.match("https?://", value, re.IGNORECASE):
            found |= {part for part in path_segments(value.partition("://")[2]) if is_token(part, 8)}
    spellings = {
        spelling for secret in found if is_worth_hiding(secret) for spelling in _spelled(secret)
    }
    patterns = [_pattern(one) for one in sorted(spellings, key=len, reverse=True)]
    return re.compile("|".join(patterns)) if patterns else None


def _secrets_within(value: str) -> Iterator[str]:
    """Yield the secrets in addresses, connection strings and keys."""
    once = unquote_plus(value)
    for text in {value, once, unquote_plus(once)}:
        for key in _PRIVATE_KEY.findall(text):
            yield from key.splitlines()[1:-1]
        for assignment in ASSIGNMENT.finditer(text):
            if is_secret_name(assignment["name"]):
                yield from password_parts(assignment["value"].strip("\"'{}"))
        for line in text.splitlines():
            for scheme in re.finditer("://", line):
                yield from secrets_of_address(line[scheme.end() :])
            if "://" not in line and (login := re.match(r"/*[^\s/:@]+:(\S+)@", line)):
                yield from password_parts(login[1])


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
    return {spelling for spelling in spellings if is_worth_hiding(spelling)}


def _pattern(secret: str) -> str:
    pattern = re.escape(secret)
    if secret.isalnum() and len(secret) < LONG_CHARACTERS:
        return rf"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{{2}})){pattern}(?![A-Za-z0-9])"  # %3D is a =
    return pattern
