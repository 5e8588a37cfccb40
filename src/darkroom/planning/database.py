"""A copy of a database, so that reading it changes no file of the project."""

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database, also while another process writes to it.

    Args:
        source: absolute path.
        target: a file that does not exist yet, in a folder that does.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as database,
        closing(sqlite3.connect(target)) as copied,
    ):
        database.backup(copied)
