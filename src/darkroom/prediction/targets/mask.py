"""Predictions of masks."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import UserError
from darkroom.prediction.columns import Column
from darkroom.prediction.description import Description, ExportDescription, Limits

columns = (Column("class"), Column("share", "number"))


def check(described: Description, file: Path, masks: bool) -> None:
    """Refuse to predict classes of images."""
    if not masks:
        raise UserError(
            f"the model of {file} predicts masks; name a folder for them with --masks FOLDER"
        )


def output_shape(described: ExportDescription) -> tuple[int, ...]:
    return (len(described.class_names), *described.input_size)


def limits(described: Description, file: Path) -> Limits:
    """Refuse: no pixel is left open."""
    raise UserError(f"--abstain: the model of {file} predicts masks and does not abstain")


def cells(classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
    return [*classes, *probabilities]
