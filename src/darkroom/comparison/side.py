"""One of the models that are compared: its predictions, and where its other files are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.comparison.predictions import Predictions
from darkroom.errors import UserError

ReadFile = Callable[[Path], bytes]


def _no_file(path: Path) -> bytes:
    raise UserError(f"{path}: not available")


@dataclass(frozen=True)
class Side:
    """One of the models that are compared."""

    name: str
    """As it is shown, for example ``experiment wide`` or ``version 3``."""
    predictions: Predictions
    model_bytes: int | None = None
    """Size of the model file; None if it is not recorded."""
    data_digest: str = ""
    """Digest of the prepared data, or its beginning; empty if it is not known."""
    read_manifest: Callable[[], bytes | None] = lambda: None
    """Returns the manifest.parquet of the prepared data; None if it cannot be found."""
    read_file: ReadFile = _no_file
    """Returns a file of ``reports/train`` or ``export``; raises UserError if it is not available."""
    read_params: Callable[[], Mapping[str, Any]] = dict
    """Returns the parameters of the training by full name, from MLflow as text; empty if not known."""
