"""Corrects the artifacts' addresses after the project was moved, copied or mounted elsewhere.

MLflow stores absolute addresses. In a project that has moved, artifacts would not be found, and new ones
would be written to the former place.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"

_ADDRESSES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("trace_tags", "value", "mlflow.artifactLocation"),
)
"""Table, column, and key of rows that hold an address. Not every version of MLflow has all."""


def database_lock(root: Path) -> FileLock:
    """Return the lock for creating and changing the database in ``root``."""
    return FileLock(root / f"{DATABASE}.lock")


def relocate(root: Path) -> int:
    """Make the database in ``root`` look for its artifacts beside itself; the caller holds its lock.

    Only addresses below a former ``mlartifacts`` of this project change; a bucket or another folder
    that a person chose stays. All addresses change in one transaction, or none. (The ``MLmodel`` files
    of logged models also contain the former place, but MLflow does not read it.)

    Returns:
        The number of changed addresses; 0, after a single SELECT, if the project has not moved.
    """
    if not (root / DATABASE).exists():
        return 0
    present = root / ARTIFACTS
    # isolation_level None: transactions begin only at BEGIN
    with closing(sqlite3.connect(root / DATABASE, timeout=60, isolation_level=None)) as database:
        former = [place for place in _places(database) if _was_left(_path(place), present)]
        if not former:
            return 0
        database.execute("BEGIN IMMEDIATE")
        num_changed = sum(_rewrite(database, place, present) for place in former)
        database.execute("COMMIT")
    folders = ", ".join(str(_path(place).parent) for place in former)
    print(f"tracking: moved from {folders}; the runs' artifacts are now found here", file=sys.stderr)
    return num_changed


def _places(database: sqlite3.Connection) -> list[str]:
    """Return the folders in which our experiments keep artifacts; only theirs end in ``mlartifacts``."""
    query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
    try:
        return [place for (place,) in database.execute(query, (f"file:///%/{ARTIFACTS}",))]
    except sqlite3.OperationalError:  # MLflow has not created its tables yet
        return []


def _path(place: str) -> Path:
    return Path(url2pathname(urlsplit(place).path))


def _was_left(former: Path, present: Path) -> bool:
    """Return whether the project was in ``place``: moved from there, or copied with its database.

    An existing folder without a database beside it is one that a person chose.
    """
    return former != present and (not former.exists() or (former.parent / DATABASE).exists())


def _rewrite(database: sqlite3.Connection, place: str, present: Path) -> int:
    num_changed = 0
    for table, column, key in _ADDRESSES:
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if column not in columns:
            continue
        # experiments created in the browser have plain paths
        for old, new in ((place, present.as_uri()), (str(_path(place)), str(present))):
            num_changed += database.execute(
                f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                f"WHERE ({column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/')"
                + (" AND key = :key" if key else ""),
                {"old": old, "new": new, "key": key},
            ).rowcount
    return num_changed
