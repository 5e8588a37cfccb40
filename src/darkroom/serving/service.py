"""The model in use, and the task that replaces it when there is another one."""

import asyncio
import sys

from darkroom.errors import UserError, brief
from darkroom.escape import for_terminal
from darkroom.serving.engine import Engine
from darkroom.serving.models.interface import ServedModel
from darkroom.serving.sources import Source

LOG_SECONDS = 60
"""Interval at which the counts of the log are written."""


class Service:
    """What requests are answered with.

    A request keeps the model with which it began. The old model is freed after its last request.

    Args:
        model: loaded from ``source``.
        reload_seconds: interval at which ``source`` is looked at; None: never.
    """

    def __init__(
        self, engine: Engine, source: Source, model: ServedModel, reload_seconds: float | None
    ) -> None:
        self.engine = engine
        self.is_stopping = False
        self._source = source
        self._reload_seconds = reload_seconds
        self._problem = ""
        self._log_fails = False
        self._use(model)

    def _use(self, model: ServedModel) -> None:
        self.model = model
        info = model.info
        self.engine.monitoring.model(info.name, info.version, info.sha256)

    async def watch(self) -> None:
        """Replace the model when there is another one, until the task is cancelled."""
        while self._reload_seconds is not None:
            await asyncio.sleep(self._reload_seconds)
            await self.refresh()

    async def keep_log(self) -> None:
        """Write the counts of the log every minute, until the task is cancelled."""
        while self.engine.log is not None:
            await asyncio.sleep(LOG_SECONDS)
            await asyncio.get_running_loop().run_in_executor(self.engine.loading, self.write_log)

    def write_log(self) -> None:
        """Write the counts of the log; say once if that fails."""
        try:
            if self.engine.log is not None:
                self.engine.log.write()
        except OSError as error:
            if not self._log_fails:
                say(
                    f"serve: --log: cannot be written ({error.strerror or error}); counts wait in memory"
                )
            self._log_fails = True
        else:
            self._log_fails = False

    async def refresh(self) -> None:
        """Replace the model if there is another one; if that cannot be loaded, keep the present one."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self.engine.loading, self._source.load_if_changed, self.model
            )
        except UserError as error:
            self._report(f"{error}")
        except Exception as error:  # keep serving the present model, whatever the error
            self._report(f"{type(error).__name__}: {brief(error)}")
        else:
            self._problem = "" if found else self._problem
            if found:
                self._use(found)
                self.engine.monitoring.reload(succeeded=True)
                say(f"serve: loaded {described(found)}")

    def _report(self, problem: str) -> None:
        """Say once what is wrong with another model."""
        if problem != self._problem:
            self._problem = problem
            self.engine.monitoring.reload(succeeded=False)
            say(f"serve: {problem}; {described(self.model)} stays in use")


def described(model: ServedModel) -> str:
    """Return the model's name, version and digest."""
    info = model.info
    version = f" version {info.version}" if info.version else ""
    return f"{info.name}{version} ({info.sha256[:12]})"


def say(message: str) -> None:
    """Print a line on standard error."""
    print(for_terminal(message), file=sys.stderr, flush=True)
