"""The folder in which the project lies."""

import os
from pathlib import Path


def project_root() -> Path:
    """Returns the folder that holds the database, and that relative paths begin at.

    DVC names it in ``DVC_ROOT``; in the throw-away copies of ``dvc exp run --temp`` that is the
    project itself, so their runs are kept. A command typed by hand finds it as DVC does: the nearest
    folder with a ``.dvc`` in it, from here upwards. Where there is none, it is the working folder.
    """
    named = os.environ.get("DVC_ROOT")
    if named:
        return Path(named).resolve()
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
