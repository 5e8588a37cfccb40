"""Where a run's events go: the destinations that the environment asks for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from darkroom.runtime import Runtime
from darkroom.tracking.mlflow_run import mlflow_run
from darkroom.tracking.run import Run
from darkroom.tracking.tensorboard import board, board_folder

BOARDED = ("train", "evaluate")
"""The stages with something for TensorBoard to show."""


@contextmanager
def tracked(title: str, runtime: Runtime) -> Iterator[Run]:
    """Makes a run for a stage or a command; one that keeps nothing where nothing is asked for.

    Raises:
        UserError: the folder for TensorBoard is one of the pipeline's own.
    """
    folder = None
    if runtime.tensorboard is not None and title in BOARDED:
        folder = board_folder(title, runtime.tensorboard)
    with ExitStack() as stack:
        run = stack.enter_context(mlflow_run(title)) if runtime.tracking == "on" else Run()
        if folder is not None:
            run = run.also(stack.enter_context(board(folder)))
        yield run
