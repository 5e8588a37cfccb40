"""The MLflow that the environment names, determined without importing MLflow."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from darkroom.tracking.secrets.addresses import shown_address, without_secrets

DEFAULT_EXPERIMENT = "darkroom"


@dataclass(frozen=True)
class Address:
    """An MLflow, and the experiment in it that gets the runs."""

    uri: str = field(repr=False)
    """The address with its secrets, if any; only MLflow may see it."""
    experiment: str
    is_embedded: bool
    """Whether it is the database in the project's root, with artifacts beside it."""

    @classmethod
    def of(cls, root: Path, environ: Mapping[str, str] = os.environ) -> Self:
        """Read ``MLFLOW_TRACKING_URI``; the default is ``mlflow.db`` in the project's ``root``."""
        given = environ.get("MLFLOW_TRACKING_URI", "")
        experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        return cls(given or f"sqlite:///{root / 'mlflow.db'}", experiment, not given)

    def __str__(self) -> str:
        return "mlflow.db" if self.is_embedded else shown_address(self.uri)

    @property
    def digest(self) -> str:
        """Identifies the address, without secrets; for the embedded database the same in any folder."""
        place = "embedded" if self.is_embedded else without_secrets(self.uri)
        return hashlib.sha256(f"{place}\n{self.experiment}".encode()).hexdigest()[:16]
