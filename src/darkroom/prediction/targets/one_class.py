"""Predictions of one class per image."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import UserError
from darkroom.prediction.description import ExportDescription, Limits

columns = ("class", "probability")


def check(described: ExportDescription, file: Path) -> None:
    """Check nothing: there are no thresholds."""


def limits(described: ExportDescription, file: Path) -> Limits:
    if described.abstention is None:
        raise UserError(
            f"{file}: has no threshold for --abstain: evaluate.target_precision was null, or an "
            "earlier version of darkroom exported the model; set it and run `dvc repro export`"
        )
    if described.abstention.threshold is None:
        raise UserError(
            f"{file}: has no threshold for --abstain: on the validation images, no threshold "
            f"was shown to reach the precision {described.abstention.target_precision:g}; lower "
            "evaluate.target_precision, or use more validation images, and run `dvc repro export`"
        )
    return Limits(described.abstention.threshold)


def cells(classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
    return [classes[0], probabilities[0]]
