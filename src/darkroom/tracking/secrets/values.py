"""Which values are secrets, and those that are assigned to a name in a text: ``password=...``."""

import re

from darkroom.tracking.secrets.names import is_assigned_secret

HIDDEN = "***"

NO_SECRETS = frozenset(
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

LEAST_LETTERS = 6
"""Minimum length of a secret that consists of letters; shorter ones would hide parts of words."""

LEAST_CHARACTERS = 4

ASSIGNMENT = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]*)(?:["']\s*:|["']?\s*=)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|\{[^}]*\}|[^\s;&,"']+)"""
)


def is_worth_hiding(secret: str) -> bool:
    """Return whether a secret is long and rare enough to be hidden wherever it occurs."""
    if secret.lower() in NO_SECRETS or len(secret) < LEAST_CHARACTERS or secret.startswith("-----"):
        return False
    return len(secret) >= LEAST_LETTERS or not secret.isalpha()


def hide_assigned(assignment: re.Match[str]) -> str:
    """Replace a match of ``ASSIGNMENT``: hide the value if the name marks a secret."""
    name, value = assignment["name"], assignment["value"]
    if not is_assigned_secret(name) or HIDDEN in value or value.strip("\"'").lower() in NO_SECRETS:
        return assignment[0]
    quotes = value[0] if value[0] in "\"'" and value[0] == value[-1] else ""
    return assignment[0].removesuffix(value) + f"{quotes}{HIDDEN}{quotes}"
