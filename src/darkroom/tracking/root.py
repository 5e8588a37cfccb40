"""The project's folder."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the project's folder, to which relative paths refer, and which holds the database.

    DVC names it in ``DVC_ROOT``; in the temporary copies of ``dvc exp run --temp`` that is the project
    itself, so their runs are kept. Otherwise it is found as DVC finds it: the closest folder with a
    ``.dvc`` in it, from the working folder upward. If there is none, it is the working folder.
    """
    named = os.environ.get("DVC_ROOT")
    if named:
        return Path(named).resolve()
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
