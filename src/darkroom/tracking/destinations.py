"""The destinations of a run's records, as the environment asks for them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from darkroom.runtime import Runtime
from darkroom.tracking.recorder import recording
from darkroom.tracking.run import Run
from darkroom.tracking.system_metrics import system_metrics
from darkroom.tracking.tensorboard import board, board_folder

BOARDED = ("train", "evaluate")
"""The stages that log something for TensorBoard to show."""

RESUMABLE = ("train",)
"""The stages that may resume an earlier run; they say so once they know."""


@contextmanager
def tracked(title: str, runtime: Runtime, subject: str = "", memo: Path | None = None) -> Iterator[Run]:
    """Yield the run of a stage or a command; without destinations it keeps nothing.

    Of several processes that train together (``torchrun``), only the first logs.

    Args:
        subject: a word for the run's name.
        memo: see ``recording``.

    Raises:
        UserError: the folder for TensorBoard is one of the pipeline's own.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    folder = None
    if is_first and runtime.tensorboard is not None and title in BOARDED:
        folder = board_folder(title, runtime.tensorboard)
    with ExitStack() as stack:
        journal = None
        if is_first and runtime.tracking == "on":
            seconds = runtime.mlflow_seconds
            journal = stack.enter_context(recording(title, seconds, title in RESUMABLE, subject, memo))
        boards = [stack.enter_context(board(folder))] if folder is not None else []
        run = Run(journal, *boards)
        if is_first and runtime.system_metrics == "on":
            stack.enter_context(system_metrics(run))
        yield run


@contextmanager
def tracked_once(title: str, runtime: Runtime, subject: str, mark: Path) -> Iterator[Run]:
    """Yield a run as ``tracked`` does, or one that keeps nothing if an earlier process has logged it.

    A process that is killed leaves a run that the next one continues.

    Args:
        mark: file that exists once the block has ended without an exception.
    """
    if runtime.tracking != "on" or mark.exists():
        yield Run()
        return
    with tracked(title, runtime, subject, mark.with_name(f"{mark.name}.run")) as run:
        yield run
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()  # before the run is sent, which the journal makes sure of
