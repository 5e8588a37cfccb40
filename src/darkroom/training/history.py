"""The course of a training, epoch by epoch: as metrics, as a table, as a picture, as a line."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.training.course import Course, EpochResult, course_metrics, course_of, overfits_since

if TYPE_CHECKING:
    import pandas as pd

DRAWN = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_f1_macro",
    "val_f1_standard_error",
    "is_best",
    "is_kept",
)
"""The columns that a picture of a training needs, and that a model file has of each epoch."""


class History:
    """Collects the results of the epochs.

    Args:
        num_earlier: epochs of an earlier process, whose durations are not known.
    """

    def __init__(self, num_earlier: int = 0) -> None:
        self._results: list[EpochResult] = []
        self._num_earlier = num_earlier
        self._seconds = 0.0
        self._started = time.monotonic()

    def add(self, result: EpochResult) -> None:
        self._results.append(result)
        now = time.monotonic()
        self._seconds, self._started = now - self._started, now

    @property
    def course(self) -> Course:
        """The kept epoch and the best one."""
        return course_of(self._results)

    def metrics(self) -> dict[str, float]:
        """Returns the last epoch's numbers, and what is kept so far, under their names in MLflow."""
        last, course = self._results[-1], self.course
        metrics = {
            "train/lr": last.lr,
            "train/loss": last.train_loss,
            "val/loss": last.val_loss,
            "val/accuracy": last.val_accuracy,
            "val/f1_macro": last.val_f1_macro,
            "val/f1_standard_error": last.val_f1_standard_error,
            **course_metrics(vars(course.kept), vars(course.best)),
        }
        if last.grad_norm is not None:
            metrics["train/grad_norm"] = last.grad_norm
        if last.epoch > self._num_earlier:
            metrics["train/epoch_seconds"] = self._seconds
        return metrics

    def last_line(self) -> str:
        """Describes the last epoch, for the progress bar."""
        last = self._results[-1]
        return (
            f"epoch {last.epoch}: loss {last.train_loss:.4f}, val loss {last.val_loss:.4f}, "
            f"val F1 {last.val_f1_macro:.4f}"
        )

    def outcome(self) -> dict[str, Any]:
        """Returns what a model file says of its training's course, the epochs' figures included."""
        return {
            **self.course.to_dict(),
            "overfits_since_epoch": overfits_since(self._results),
            "history": self._curves(),
        }

    def remarks(self) -> list[str]:
        """Returns what should be said aloud of the course."""
        since = overfits_since(self._results)
        overfits = [] if since is None else [f"overfits since epoch {since}: {OVERFITTING_ADVICE}"]
        return [*overfits, *self.course.remarks]

    def write_csv(self, path: Path) -> None:
        """Writes a row an epoch. Durations are left out: they differ every time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._table().to_csv(path, index=False, lineterminator="\n")

    def draw(self, path: Path) -> None:
        """Draws losses and scores by epoch."""
        from darkroom.reporting.figures import draw_history

        draw_history(self._curves(), path)

    def _curves(self) -> dict[str, list[Any]]:
        """Returns a list for each of the columns that ``draw_history`` draws."""
        rows = [vars(result) for result in self._results]
        return {column: [_rounded(row[column]) for row in rows] for column in DRAWN}

    def _table(self) -> "pd.DataFrame":
        import pandas as pd  # it and matplotlib cost a second, which a training need not begin with

        table = pd.DataFrame([asdict(result) for result in self._results])
        return table.dropna(axis="columns", how="all")  # norms that were not computed


def _rounded(value: Any) -> Any:
    """Returns six digits of a number: a model file has thousands."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
