"""Databases without runs, which take seconds to make."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded database; its artifacts lie beside it, wherever a copy of it is."""
    from darkroom.tracking.address import Address
    from darkroom.tracking.mlflow.store import open_store

    folder = tmp_path_factory.mktemp("fresh")
    open_store(folder, Address.of(folder, {}))
    return folder / "mlflow.db"
