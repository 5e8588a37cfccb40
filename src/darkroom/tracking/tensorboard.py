"""Writes a run's records for TensorBoard; a failure costs one warning, and the stage continues."""

import copy
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from darkroom.errors import UserError
from darkroom.tracking.records import (
    File,
    Graph,
    ImageBatch,
    LiveRecord,
    Metrics,
    Params,
    PrCurves,
    Record,
)
from darkroom.tracking.root import project_root
from darkroom.tracking.run import warn

if TYPE_CHECKING:
    from torch import Tensor

FLUSH_SECONDS = 5
"""Interval at which event files are flushed to disk."""

NUM_THRESHOLDS = 127
"""Points of a precision-recall curve; TensorBoard allows no more."""

OWN_FOLDERS = ("data", "export", "models", "reports", "src", "stages")
"""Folders of the pipeline's inputs and outputs: another file in them would change their hashes."""


def board_folder(stage: str, given: str) -> Path:
    """Return a new folder for this run in the folder ``given``, which may be relative to the root.

    Raises:
        UserError: ``given`` is in one of the pipeline's own folders.
    """
    root = project_root()
    folder = (root / given).resolve()
    if any(folder.is_relative_to(root / own) for own in OWN_FOLDERS):
        raise UserError(
            f"environment: DARKROOM_TENSORBOARD={given} is not allowed; the folders "
            f"{', '.join(OWN_FOLDERS)} belong to the pipeline (a common choice is runs)"
        )
    return folder / f"{stage}-{datetime.now():%Y%m%d-%H%M%S-%f}"


@contextmanager
def board(folder: Path) -> Iterator[Callable[[Record | LiveRecord], None]]:
    """Yield a function that writes records into event files in ``folder``."""
    try:
        opened = _Board(folder)
    except ModuleNotFoundError as error:
        warn("nothing is written for TensorBoard (pip install 'darkroom[tensorboard]')", error)
        yield lambda record: None
        return
    except Exception as error:  # of any kind: an observer must not stop the work
        warn("nothing is written for TensorBoard", error)
        yield lambda record: None
        return
    try:
        yield opened.record
    finally:
        opened.close()


class _Board:
    """Writes records in a thread of its own; warns of the first failure and writes no more after it."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS)
        self._has_failed = False
        self._waiting: SimpleQueue[Record | LiveRecord | None] = SimpleQueue()
        self._hook = threading.excepthook
        threading.excepthook = self._leave_out_writers
        self._thread = threading.Thread(target=self._write_all, name="tensorboard", daemon=True)
        self._thread.start()

    def record(self, record: Record | LiveRecord) -> None:
        """Take a record; read at once what may change later, and leave the rest to the thread."""
        match record:
            case ImageBatch():
                self._attempt(lambda: self._waiting.put(replace(record, images=_pixels(record.images))))
            case Graph():
                self._add_graph(record)
            case _:
                self._waiting.put(record)

    def close(self) -> None:
        """Write all waiting records."""
        self._waiting.put(None)
        self._thread.join()
        self._attempt(self._writer.close)
        threading.excepthook = self._hook

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._attempt(lambda record=record: self._write(record))  # type: ignore[misc]

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:  # of any kind: an observer must not stop the work
            self._has_failed = True
            warn("nothing more is written for TensorBoard", error)

    def _write(self, record: Record | LiveRecord) -> None:
        match record:
            case Metrics(values=values, step=step, timestamp_ms=timestamp_ms):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step, timestamp_ms / 1_000)
            case Params(values=values):
                self._writer.add_text("params", _table(values))
            case ImageBatch(name, images):
                self._writer.add_images(name, images)
            case PrCurves():
                self._add_pr_curves(record)
            case File(path=path) if path.endswith(".png"):
                self._add_picture(Path(path))

    def _add_picture(self, file: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(file) as picture:
            pixels = np.array(picture.convert("RGB"))
        self._writer.add_image(file.as_posix(), pixels, dataformats="HWC")

    def _add_pr_curves(self, curves: PrCurves) -> None:
        targets, probabilities = curves.targets.numpy(), curves.probabilities.numpy()
        for i, name in enumerate(curves.class_names):
            has_label = targets[:, i]
            if not has_label.any():
                continue  # as in the report, a class without test images has no curve
            tag = f"test/precision_recall/{name}"
            self._writer.add_pr_curve(tag, has_label, probabilities[:, i], 0, NUM_THRESHOLDS)

    def _add_graph(self, graph: Graph) -> None:
        """Trace a copy: tracing changes a model's modes, and must not run during a training step."""
        import torch

        if self._has_failed:
            return
        try:
            with (
                torch.no_grad(),
                torch.random.fork_rng(devices=[]),
                warnings.catch_warnings(action="ignore"),
                redirect_stdout(io.StringIO()),  # torch also prints the errors that it raises
            ):
                model = copy.deepcopy(graph.model).cpu().eval()
                self._writer.add_graph(model, graph.images.cpu())
        except Exception as error:  # not every model can be traced
            warn("the model's graph is not written for TensorBoard", error)

    def _leave_out_writers(self, args: threading.ExceptHookArgs) -> None:
        """Hide tracebacks of TensorBoard's own thread: its failures also reach us, and are reported."""
        if type(args.thread).__name__ != "_AsyncWriterThread":
            self._hook(args)


def _pixels(images: "Tensor") -> "Tensor":
    """Return a copy as uint8 on the CPU; mixed images, which are float, are rounded."""
    import torch

    images = images.detach().cpu()
    return images.round().clamp(0, 255).to(torch.uint8, copy=True)


def _table(texts: dict[str, str]) -> str:
    cells = {name: text.replace("|", "\\|") for name, text in texts.items()}
    rows = [f"| {name} | {text} |" for name, text in cells.items()]
    return "\n".join(["| parameter | value |", "|---|---|", *rows])
