"""What evaluate leaves behind: predictions, plots for DVC and for people, and the report."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from darkroom.data.shards import Shards
from darkroom.metrics.confusion import confusion_matrix
from darkroom.metrics.curves import Curves, precision_recall_curves, roc_curves
from darkroom.models.spec import ModelSpec
from darkroom.reporting.advice import OVERFITTING_ADVICE
from darkroom.reporting.figures import (
    draw_confusion_matrix,
    draw_curves,
    draw_titled_images,
)
from darkroom.reporting.report import write_report
from darkroom.reporting.tables import write_csv

NUM_HARDEST = 30


@dataclass(frozen=True)
class Evaluation:
    """A model's outcome on one split.

    ``targets`` is int64 ``(n,)`` and ``probabilities`` float64 ``(n, num_classes)``, in the order
    of ``shards``; ``metrics`` is as ``classification_metrics`` returns.
    """

    spec: ModelSpec
    shards: Shards
    targets: Tensor
    probabilities: Tensor
    metrics: dict[str, Any]

    @cached_property
    def preds(self) -> Tensor:
        """int64 ``(n,)``, the most probable classes."""
        return self.probabilities.argmax(dim=1)

    @property
    def class_names(self) -> list[str]:
        return list(self.spec.class_names)

    def write_predictions(self, path: Path) -> None:
        """Writes a row an image: path, label, pred, correct, probability, probabilities."""
        names = np.array(self.class_names, dtype=object)
        table = pd.DataFrame(
            {
                "path": self.shards.paths,
                "label": names[self.targets.numpy()],
                "pred": names[self.preds.numpy()],
                "correct": (self.preds == self.targets).numpy(),
                "probability": self.probabilities.amax(dim=1).float().numpy(),
                "probabilities": list(self.probabilities.float().numpy()),
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False, compression="zstd")

    def write_plots(self, folder: Path) -> None:
        """Writes the confusion matrix, both curves and the hardest images, as CSV and PNG."""
        names = self.class_names
        pairs = zip(self.targets.tolist(), self.preds.tolist(), strict=True)
        write_csv(
            ("actual", "predicted"),
            ((names[target], names[pred]) for target, pred in pairs),
            folder / "confusion.csv",
        )
        counts = confusion_matrix(self.targets, self.preds, len(names)).tolist()
        draw_confusion_matrix(counts, names, folder / "confusion.png")
        for curves, stem, labels in (
            (precision_recall_curves, "precision_recall", ("recall", "precision")),
            (roc_curves, "roc", ("false_positive_rate", "true_positive_rate")),
        ):
            _write_curves(curves(self.targets, self.probabilities, names), folder / stem, labels)
        self._draw_hardest(folder / "hardest.png")

    def write_report(self, plots: Path, path: Path) -> None:
        """Writes the report, with the pictures that ``write_plots`` made."""
        height, width = self.spec.input_size
        write_report(
            title=f"{self.spec.name} on {self.metrics['num_images']:,} test images",
            subtitle=f"{len(self.class_names)} classes, images of {height} x {width} x "
            f"{self.spec.channels} pixels. The test images were not seen in training.",
            metrics=self.metrics,
            remarks=self._remarks(),
            sections=[
                (
                    "Where it errs",
                    [
                        ("Rows are true classes", plots / "confusion.png"),
                        (
                            "The hardest images: true class, its probability, what it was taken for",
                            plots / "hardest.png",
                        ),
                    ],
                ),
                (
                    "Over all thresholds",
                    [
                        ("Precision over recall, interpolated", plots / "precision_recall.png"),
                        ("Receiver operating characteristic", plots / "roc.png"),
                    ],
                ),
            ],
            path=path,
        )

    def _remarks(self) -> list[str]:
        since = self.spec.training.get("overfits_since_epoch")
        if since is None:
            return []
        return [f"The training overfits since epoch {since}: {OVERFITTING_ADVICE}."]

    def _draw_hardest(self, path: Path) -> None:
        """Draws the images whose true class got the lowest probability: mistakes first."""
        of_true_class = self.probabilities.gather(1, self.targets[:, None])[:, 0]
        hardest = of_true_class.argsort(stable=True)[:NUM_HARDEST]
        names = self.class_names
        titles = [
            f"{names[self.targets[i]]}: {of_true_class[i]:.2f}"
            + ("" if self.preds[i] == self.targets[i] else f"\ntaken for {names[self.preds[i]]}")
            for i in hardest.tolist()
        ]
        draw_titled_images(list(self.shards.gather(hardest.numpy())), titles, path)


def _write_curves(curves: Curves, stem: Path, labels: tuple[str, str]) -> None:
    names = list(curves.values)
    write_csv(
        (labels[0], labels[1], *(f"{labels[1]} {name}" for name in names)),
        zip(curves.grid, curves.macro, *curves.values.values(), strict=True),
        stem.with_suffix(".csv"),
    )
    spaced = (labels[0].replace("_", " "), labels[1].replace("_", " "))
    draw_curves(curves.grid, curves.values, curves.macro, spaced, stem.with_suffix(".png"))
