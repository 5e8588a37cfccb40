"""The course of a training, epoch by epoch: as metrics, as a table, as a picture, as a line."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.training.overfitting import overfits_since
from darkroom.training.state import EpochResult

if TYPE_CHECKING:
    import pandas as pd


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
    def best(self) -> EpochResult:
        """The epoch whose weights were kept."""
        return [result for result in self._results if result.is_best][-1]

    def metrics(self) -> dict[str, float]:
        """Returns the last epoch's numbers under the names they have in MLflow."""
        last = self._results[-1]
        metrics = {
            "train/lr": last.lr,
            "train/loss": last.train_loss,
            "val/loss": last.val_loss,
            "val/accuracy": last.val_accuracy,
            "val/f1_macro": last.val_f1_macro,
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

    def best_line(self) -> str:
        """Describes the epoch that was kept."""
        return f"kept epoch {self.best.epoch} with val macro F1 {self.best.val_f1_macro:.4f}"

    def outcome(self) -> dict[str, Any]:
        """Returns what a model file says of its training's course."""
        best = {
            "epoch": self.best.epoch,
            "val_loss": self.best.val_loss,
            "val_accuracy": self.best.val_accuracy,
            "val_f1_macro": self.best.val_f1_macro,
        }
        return {"best": best, "overfits_since_epoch": overfits_since(self._results)}

    def tags(self) -> dict[str, str]:
        """Returns by what such runs are found in MLflow."""
        since = overfits_since(self._results)
        return {"overfits_since_epoch": "never" if since is None else f"{since}"}

    def remarks(self) -> list[str]:
        """Returns what should be said aloud of the course."""
        since = overfits_since(self._results)
        if since is None:
            return []
        return [f"overfits since epoch {since}: {OVERFITTING_ADVICE}"]

    def write_csv(self, path: Path) -> None:
        """Writes a row an epoch. Durations are left out: they differ every time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._table().to_csv(path, index=False, lineterminator="\n")

    def draw(self, path: Path) -> None:
        """Draws losses and scores by epoch."""
        from darkroom.reporting.figures import draw_history

        draw_history(self._table().to_dict("list"), path)

    def _table(self) -> "pd.DataFrame":
        import pandas as pd  # it and matplotlib cost a second, which a training need not begin with

        table = pd.DataFrame([asdict(result) for result in self._results])
        return table.dropna(axis="columns", how="all")  # norms that were not computed
