"""Predictions of any number of labels per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from darkroom.errors import UserError, counted
from darkroom.prediction.columns import Column
from darkroom.prediction.description import Description, Limits, check_no_masks

columns = (Column("labels"), Column("probabilities"))


def check(described: Description, file: Path, masks: bool) -> None:
    check_no_masks(described, file, masks)
    thresholds = described.thresholds or []
    if len(thresholds) != len(described.class_names):
        raise UserError(
            f"{file}: has {counted(len(thresholds), 'threshold')} "
            f"for {counted(len(described.class_names), 'label')}"
        )


def output_shape(described: Description) -> tuple[int, ...]:
    return (len(described.class_names),)


def limits(described: Description, file: Path) -> Limits:
    """Return the limits of each label; a label without one is never present, or never absent."""
    found = described.abstention
    if found is None or found.yes is None or found.no is None:
        raise UserError(
            f"{file}: has no thresholds for --abstain: evaluate.target_precision was null, or an "
            "earlier version of darkroom exported the model; set it and run `dvc repro export`"
        )
    if not len(found.yes) == len(found.no) == len(described.class_names):
        raise UserError(
            f"{file}: has {len(found.yes)} and {len(found.no)} thresholds for --abstain "
            f"for {counted(len(described.class_names), 'label')}"
        )
    return Limits(
        yes=np.array([2.0 if one is None else one for one in found.yes]),
        no=np.array([-1.0 if one is None else one for one in found.no]),
    )


def cells(classes: Sequence[str], probabilities: Sequence[str]) -> list[str]:
    return ["|".join(classes), "|".join(probabilities)]
