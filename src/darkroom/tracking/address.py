"""Which MLflow the environment asks for; known without importing MLflow."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DEFAULT_EXPERIMENT = "darkroom"

_SECRET_NAMES = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")
_HIDDEN = "***"


@dataclass(frozen=True)
class Address:
    """An MLflow, and the experiment in it that takes the runs."""

    uri: str
    """With its secrets, if it has some: for MLflow alone."""
    experiment: str
    is_embedded: bool
    """Is the database in the project's root, and artifacts beside it."""

    @classmethod
    def of(cls, root: Path, environ: Mapping[str, str] = os.environ) -> Self:
        """Reads ``MLFLOW_TRACKING_URI``, else takes ``mlflow.db`` in the project's ``root``."""
        given = environ.get("MLFLOW_TRACKING_URI", "")
        experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        return cls(given or f"sqlite:///{root / 'mlflow.db'}", experiment, not given)

    def __str__(self) -> str:
        return "mlflow.db" if self.is_embedded else redact(self.uri)

    @property
    def digest(self) -> str:
        """Tells it from others, without secrets; that of the embedded one moves with the project."""
        place = "embedded" if self.is_embedded else _USER_INFO.sub("", self.uri).rstrip("/")
        return hashlib.sha256(f"{place}\n{self.experiment}".encode()).hexdigest()[:16]


def redact(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Hides users and passwords in addresses, and values of the environment that are secret.

    A variable is secret if its name says so (token, password, secret, key, ...).
    """
    text = _USER_INFO.sub(f"{_HIDDEN}@", text)
    values = [value for name, value in environ.items() if _SECRET_NAMES.search(name)]
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= 6:  # shorter ones would hide words
            text = text.replace(value, _HIDDEN)
    return text
