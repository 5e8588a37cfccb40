"""Predictions of one class per image."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import UserError
from darkroom.prediction.columns import Column
from darkroom.prediction.description import Description, Limits, check_no_masks

columns = (Column("class"), Column("probability", "number"))


def check(described: Description, file: Path, masks: bool) -> None:
    """Refuse to predict masks; there are no thresholds to check."""
    check_no_masks(described, file, masks)


def output_shape(described: Description) -> tuple[int, ...]:
    return (len(described.class_names),)


def limits(described: Description, file: Path) -> Limits:
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
