"""Where a served model comes from, and whether there is another one: a folder, or the registry."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from darkroom.errors import UserError
from darkroom.serving.engine import Engine
from darkroom.serving.models.interface import Exported, Options, ServedModel
from darkroom.serving.models.load import load_served

REGISTRY = "models:/"


class Source(Protocol):
    """Where a model comes from."""

    def load(self) -> ServedModel:
        """Return the model that is there.

        Raises:
            UserError: it cannot be loaded.
        """
        ...

    def load_if_changed(self, current: ServedModel) -> ServedModel | None:
        """Return the model that is there now, or None if it is still ``current``.

        A model that failed to load is tried again once something has changed.

        Raises:
            UserError: there is another one, and it cannot be loaded.
        """
        ...


def make_source(name: str, options: Options, engine: Engine) -> Source:
    """Return the source that the command's argument names: a folder, or ``models:/NAME@ALIAS``."""
    if name.startswith(REGISTRY):
        return RegistrySource(name, options, engine)
    return FolderSource(Path(name), options, engine)


class FolderSource:
    """An exported folder."""

    def __init__(self, folder: Path, options: Options, engine: Engine) -> None:
        self._exported = Exported(folder, folder.resolve().name)
        self._options, self._engine = options, engine
        self._seen = self._signature()

    def load(self) -> ServedModel:
        return load_served(self._exported, self._options, self._engine)

    def load_if_changed(self, current: ServedModel) -> ServedModel | None:
        found = self._signature()
        if found == self._seen:
            return None
        self._seen = found  # before loading: a change meanwhile is noticed the next time
        served = self.load()
        return None if served.info.content_sha256 == current.info.content_sha256 else served

    def _signature(self) -> list[tuple[str, int, int, int]]:
        """Return names, sizes and times of the files, which change when the folder is written again."""
        found = []
        with suppress(OSError):
            for file in self._exported.folder.iterdir():
                status = file.stat()
                found.append((file.name, status.st_size, status.st_mtime_ns, status.st_ino))
        return sorted(found)


class RegistrySource:
    """A version of the registered model in MLflow, by alias or number."""

    def __init__(self, name: str, options: Options, engine: Engine) -> None:
        self._name, self._options, self._engine = name, options, engine
        self._tried = ""

    def load(self) -> ServedModel:
        from darkroom.tracking.mlflow.exported_version import download, find_version

        version = find_version(self._name)
        self._tried = f"{version.number}"
        with TemporaryDirectory() as folder:
            download(version, Path(folder), self._options.format_name)
            exported = Exported(Path(folder), version.name, f"{version.number}")
            try:
                return load_served(exported, self._options, self._engine)
            except UserError as error:
                raise UserError(f"{error}".replace(folder, self._name)) from None

    def load_if_changed(self, current: ServedModel) -> ServedModel | None:
        from darkroom.tracking.mlflow.exported_version import find_version

        number = f"{find_version(self._name).number}"
        if number in (current.info.version, self._tried):
            if number == current.info.version:
                self._tried = ""
            return None
        return self.load()
