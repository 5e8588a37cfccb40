"""Predictions of masks."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import UserError
from darkroom.prediction.description import ExportDescription, Limits

columns = ("mask", "probability")


def check(described: ExportDescription, file: Path) -> None:
    """Refuse the model: a table has no place for masks."""
    raise UserError(
        f"{file}: the model predicts masks, and `darkroom predict` writes tables of classes; run "
        "model.onnx, whose output `probabilities` has a map per class"
    )


def limits(described: ExportDescription, file: Path) -> Limits:
    return Limits()


def cells(classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
    return [*classes, *probabilities]
