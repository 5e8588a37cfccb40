"""Finds mistakes in the settings that name an MLflow, without importing or contacting it."""

import os
import re
from collections.abc import Mapping
from importlib.metadata import entry_points

from darkroom.errors import did_you_mean, listed
from darkroom.tracking.address import Address
from darkroom.tracking.journal.trouble import Misconfigured

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
"""Schemes of servers and databases; databases may name a driver: ``postgresql+psycopg``."""

SERVICES = ("databricks", "databricks-uc", "uc")
"""Services that need no address."""

LENGTH_OF_EXPERIMENT = 500
"""MLflow's limit in characters."""

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_NETLOC = re.compile(
    r"(?:[^@]*@)?(\[[0-9a-fA-F:.%]+\]|[^\s:/?#\[\]]+)(?::(\d*))?(?:[/?#].*)?", re.DOTALL
)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_HOST = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+|\[[0-9a-fA-F:]+\])(:\d+)?(/.*)?|[\w.-]+:\d+(/.*)?")


def check_settings(address: Address, environ: Mapping[str, str] = os.environ) -> None:
    """Reject an address or an experiment's name that MLflow never accepts.

    Raises:
        Misconfigured: the message names the setting, the mistake, and what is allowed.
    """
    if len(address.experiment) > LENGTH_OF_EXPERIMENT:
        raise Misconfigured(
            f"MLFLOW_EXPERIMENT_NAME has {len(address.experiment):,} characters; MLflow allows "
            f"{LENGTH_OF_EXPERIMENT}"
        )
    if not address.experiment.strip():
        raise Misconfigured("MLFLOW_EXPERIMENT_NAME is blank; name an experiment, or unset the variable")
    if not address.is_embedded and (problem := _problem(address, environ)):
        raise Misconfigured(f"MLFLOW_TRACKING_URI: {problem}")


def _problem(address: Address, environ: Mapping[str, str]) -> str:
    """Return what is wrong with the address; an empty string if it is valid."""
    uri, shown = address.uri, f"{address}"
    if uri != uri.strip():
        return f"{shown!r} starts or ends with whitespace"
    found = _URI.fullmatch(uri)
    scheme = found["scheme"].lower() if found else ""
    if scheme in SERVICES or uri in SERVICES:
        return ""
    if found is None or (not found["slashes"] and _HOST.fullmatch(uri)):
        return _without_scheme(uri, shown)
    if scheme == "file" or _DRIVE.match(uri):
        return _folder(shown, environ)
    if scheme.partition("+")[0] not in SCHEMES and scheme not in _schemes_of_plugins():
        known = [*SCHEMES, *SERVICES, *_schemes_of_plugins()]
        near = did_you_mean(scheme, known)
        return f"{shown} has the scheme {scheme}, which MLflow does not know{near or ';'} it knows " + (
            listed(known)
        )
    if scheme in ("http", "https") and not (found["slashes"] == "//" and _is_server(found["rest"])):
        return f"{shown} is not the address of a server, such as {scheme}://127.0.0.1:5000"
    if scheme == "sqlite" and len(found["slashes"]) < 3:
        return f"{shown} is not the address of a file, such as sqlite:///mlflow.db"
    return ""


def _is_server(rest: str) -> bool:
    """Return whether host and port can exist, given what follows ``://``."""
    place = _NETLOC.fullmatch(rest)
    return place is not None and int(place[2] or 0) < 2**16


def _without_scheme(uri: str, shown: str) -> str:
    if _HOST.fullmatch(uri) and not uri.endswith(".db"):
        return f"{shown} has no scheme; did you mean http://{shown}?"
    if uri.endswith((".db", ".sqlite", ".sqlite3")):
        return f"{shown} has no scheme; did you mean sqlite:///{shown}?"
    return _folder(shown, os.environ)


def _folder(shown: str, environ: Mapping[str, str]) -> str:
    if environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return ""
    return (
        f"{shown} is a folder, which MLflow no longer supports; name a server "
        "(http://127.0.0.1:5000) or a database (sqlite:///mlflow.db), or unset the variable"
    )


def _schemes_of_plugins() -> list[str]:
    return sorted(entry.name for entry in entry_points(group="mlflow.tracking_store"))
