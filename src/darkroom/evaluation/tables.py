"""Write predictions, scores, confusions and curves as tables."""

from pathlib import Path

import pandas as pd

from darkroom.evaluation import unfamiliarity
from darkroom.evaluation.evaluation import Evaluation
from darkroom.metrics.curves import Curves
from darkroom.reporting.tables import write_csv

CLASS_COLUMNS = (
    "threshold",
    "precision",
    "precision_low",
    "precision_high",
    "recall",
    "recall_low",
    "recall_high",
    "f1",
    "f1_low",
    "f1_high",
    "roc_auc",
    "average_precision",
    "support",
    "predicted",
)
"""Columns of classes.csv, if there are such scores."""


def write_predictions(evaluation: Evaluation, paths: list[str], file: Path) -> None:
    """Write one row per image: its path, labels, predictions and probabilities."""
    table = pd.DataFrame(
        {
            "path": paths,
            **evaluation.prediction_columns(),
            "probabilities": list(evaluation.probabilities.float().numpy()),
            **unfamiliarity.prediction_columns(evaluation),
            **({"tta": evaluation.metrics["tta"]} if "tta" in evaluation.metrics else {}),
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False, compression="zstd")


def write_classes(evaluation: Evaluation, file: Path) -> None:
    """Write the scores of each class; cells are empty for what cannot be measured."""
    rows = evaluation.metrics["per_class"]
    columns = [name for name in CLASS_COLUMNS if name in next(iter(rows.values()))]
    write_csv(
        ("class", *columns),
        ((name, *(row[column] for column in columns)) for name, row in rows.items()),
        file,
    )


def write_confusions(evaluation: Evaluation, folder: Path) -> None:
    """Write confusion.csv, one row per pair as DVC's plots need it, and the matrix of counts."""
    names = evaluation.confused_names
    write_csv(
        ("actual", "predicted"),
        ((names[target], names[pred]) for target, pred in evaluation.confused_pairs),
        folder / "confusion.csv",
    )
    write_csv(
        ("actual \\ predicted", *names),
        ((name, *row) for name, row in zip(names, evaluation.confusion.tolist(), strict=True)),
        folder / "confusion_matrix.csv",
    )


def write_curves(curves: Curves, labels: tuple[str, str], file: Path) -> None:
    """Write the mean curve and the curve of each class over a common grid.

    Args:
        labels: names of the horizontal and the vertical quantity.
    """
    across, upward = labels
    write_csv(
        (across, upward, *(f"{upward} {name}" for name in curves.values)),
        zip(curves.grid, curves.macro, *curves.values.values(), strict=True),
        file,
    )
