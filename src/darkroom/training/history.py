"""The results of a training's epochs: as metrics, as a table, as a figure, as text."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.training.course import Course, EpochResult, course_metrics, course_of, overfits_since

if TYPE_CHECKING:
    import pandas as pd

CURVES = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_f1_macro",
    "val_f1_standard_error",
    "is_best",
    "is_kept",
)
"""Columns that are drawn, and recorded for each epoch in the model file."""


class History:
    """Collect the results of the epochs.

    Args:
        num_earlier: number of epochs that were trained before; their durations are unknown.
    """

    def __init__(self, num_earlier: int = 0) -> None:
        self._results: list[EpochResult] = []
        self._num_earlier = num_earlier
        self._seconds = 0.0
        self._started = time.monotonic()

    def add(self, result: EpochResult) -> None:
        """Append the result of the next epoch."""
        self._results.append(result)
        now = time.monotonic()
        self._seconds, self._started = now - self._started, now

    @property
    def course(self) -> Course:
        """The kept epoch and the best one."""
        return course_of(self._results)

    def metrics(self) -> dict[str, float]:
        """Return the last epoch's figures, and those of the kept epoch, by their names in MLflow."""
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
        for name in ("grad_norm", "grad_norm_first_layer", "grad_norm_last_layer"):
            if (norm := getattr(last, name)) is not None:
                metrics[f"train/{name}"] = norm
        if last.epoch > self._num_earlier:
            metrics["train/epoch_seconds"] = self._seconds
        return metrics

    def last_line(self) -> str:
        """Return a line on the last epoch, for the progress bar."""
        last = self._results[-1]
        return (
            f"epoch {last.epoch}: loss {last.train_loss:.4f}, val loss {last.val_loss:.4f}, "
            f"val F1 {last.val_f1_macro:.4f}"
        )

    def outcome(self, remarks: Sequence[str] = ()) -> dict[str, Any]:
        """Return what a model file records about the epochs, with more ``remarks`` on the training."""
        course = self.course.to_dict()
        course["kept"]["remarks"] += remarks
        return {
            **course,
            "overfits_since_epoch": overfits_since(self._results),
            "history": self._curves(),
        }

    def remarks(self) -> list[str]:
        """Return remarks for the terminal: overfitting, or a kept epoch that is an early one."""
        since = overfits_since(self._results)
        overfits = [] if since is None else [f"overfits since epoch {since}: {OVERFITTING_ADVICE}"]
        return [*overfits, *self.course.remarks]

    def write_csv(self, path: Path) -> None:
        """Write one row per epoch, without durations, which differ between runs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._table().to_csv(path, index=False, lineterminator="\n")

    def draw(self, path: Path) -> None:
        """Draw losses and scores by epoch."""
        from darkroom.reporting.figures import draw_history

        draw_history(self._curves(), path)

    def _curves(self) -> dict[str, list[Any]]:
        """Return the values of each of the ``CURVES``, rounded to six digits."""
        rows = [vars(result) for result in self._results]
        return {column: [_rounded(row[column]) for row in rows] for column in CURVES}

    def _table(self) -> "pd.DataFrame":
        import pandas as pd  # takes a second, for which the start of a training should not wait

        table = pd.DataFrame([asdict(result) for result in self._results])
        return table.dropna(axis="columns", how="all")  # gradient norms, if there is no clipping


def _rounded(value: Any) -> Any:
    """Round a number to six digits: a model file holds thousands of them."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
