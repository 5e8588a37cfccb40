"""The folder in which the project lies."""

import os
from pathlib import Path


def project_root() -> Path:
    """Returns the folder that holds the database, and that relative paths begin at.

    DVC names it in ``DVC_ROOT``; in the throw-away copies of ``dvc exp run --temp`` that is the
    project itself, so their runs are kept.
    """
    return Path(os.environ.get("DVC_ROOT") or os.getcwd()).resolve()
