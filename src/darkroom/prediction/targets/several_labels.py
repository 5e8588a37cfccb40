"""Predictions of any number of labels per image."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import UserError, counted
from darkroom.prediction.description import ExportDescription

columns = ("labels", "probabilities")


def check(described: ExportDescription, file: Path) -> None:
    thresholds = described.thresholds or []
    if len(thresholds) != len(described.class_names):
        raise UserError(
            f"{file}: has {counted(len(thresholds), 'threshold')} "
            f"for {counted(len(described.class_names), 'label')}"
        )


def abstention_threshold(described: ExportDescription, file: Path) -> float:
    raise UserError(
        f"{file}: --abstain needs one class per image; this model predicts a label only if "
        "its probability reaches the label's threshold"
    )


def cells(classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
    return ["|".join(classes), "|".join(probabilities)]
