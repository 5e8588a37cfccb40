"""Answers tools/ui.sh before it serves the runs, without importing MLflow, which takes seconds.

``python -m darkroom.tracking.mlflow.ui`` corrects the artifacts' addresses of a project that was
moved, and prints three lines: the project's root, the page to open, and MLflow's address without
secrets.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from darkroom.tracking.address import Address
from darkroom.tracking.mlflow.relocate import DATABASE, database_lock, relocate
from darkroom.tracking.mlflow.view import VIEW_TAG, page
from darkroom.tracking.root import project_root


def main() -> None:
    root = project_root()
    experiment_id = None
    if not os.environ.get("MLFLOW_TRACKING_URI") and (root / DATABASE).exists():
        with database_lock(root):
            relocate(root)
        experiment_id = _newest_experiment(root)
    print(root, page(experiment_id), Address.of(root), sep="\n")


def _newest_experiment(root: Path) -> str | None:
    """Return the id of our experiment that was changed last."""
    query = (
        "SELECT experiment_id FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = ? AND lifecycle_stage = 'active' ORDER BY last_update_time DESC"
    )
    try:
        with closing(sqlite3.connect(root / DATABASE)) as database:
            found = database.execute(query, (VIEW_TAG,)).fetchone()
    except sqlite3.OperationalError:  # another schema
        return None
    return None if found is None else str(found[0])


if __name__ == "__main__":
    main()
