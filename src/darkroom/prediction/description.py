"""What a prediction needs to know of an exported model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt

from darkroom.decoding.decode import Resize
from darkroom.errors import UserError
from darkroom.inputs import Encoding
from darkroom.models.exported import DESCRIPTION, check_exported, load_description
from darkroom.targets import WORDS, Target, from_file

_Probability = Annotated[float, Field(ge=0, le=1)]


class Abstention(BaseModel):
    """When an answer is too unsure; no threshold has reached the precision if it is None."""

    target_precision: float
    threshold: _Probability | None = None
    # of each label, if an image may have several
    yes: list[_Probability | None] | None = None
    no: list[_Probability | None] | None = None


@dataclass(frozen=True)
class Limits:
    """Between which probabilities a model abstains."""

    threshold: float = 0.0
    """The image gets no answer if no class is as probable."""
    yes: NDArray[np.float64] | None = None
    """The lowest probability at which each label is present; None: there are no such limits."""
    no: NDArray[np.float64] | None = None
    """The highest probability at which each label is absent."""

    def is_open(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return whether each label is neither present nor absent, ``(num_classes,)``."""
        if self.yes is None or self.no is None:
            return np.zeros(len(probabilities), np.bool_)
        exact = probabilities.astype(np.float64)
        return (exact < self.yes) & (exact > self.no)


class Sets(BaseModel):
    """The lowest probability at which each class belongs to the set of possible classes."""

    thresholds: list[_Probability]


class Description(BaseModel):
    """The values of model.json that every prediction needs."""

    class_names: list[str] = Field(min_length=1)
    # in model.json as multi_label, and only if it is not one class
    target: Target = "one_class"
    thresholds: list[_Probability] | None = None
    # not in model.json of earlier versions, or if evaluate was not asked for them
    abstention: Abstention | None = None
    conformal: Sets | None = None


class ExportDescription(Description):
    """The values of model.json that a prediction of images needs."""

    input_size: tuple[PositiveInt, PositiveInt]
    channels: Literal[1, 3]
    resize: Resize
    # not in model.json if prepared images have the input size
    prepared_size: tuple[PositiveInt, PositiveInt] | None = None
    evaluate_crop: Literal["centre", "whole"] | None = None


class RowDescription(Description):
    """The values of model.json that a prediction of rows needs."""

    encoding: Encoding


AnyDescription = TypeVar("AnyDescription", bound=Description)


def load_described(
    kind: type[AnyDescription], folder: Path, model_name: str = "model.onnx"
) -> tuple[AnyDescription, Path, Path]:
    """Return the description of an export, its file, and that of the ONNX model.

    Raises:
        UserError: a file is missing, damaged, or from another export, or the model takes other inputs.
    """
    values, digests = load_description(folder)
    file, model = folder / DESCRIPTION, check_exported(folder, digests, model_name)
    try:
        return kind.model_validate_json(json.dumps(from_file(values)), strict=True), file, model
    except ValueError as error:
        problem = str(error).splitlines()
        raise UserError(
            f"{file}: not in darkroom's format ({' '.join(problem[1:3]) or problem[0]})"
        ) from None


def takes_rows(folder: Path) -> bool:
    """Return whether an export takes rows of a table; raise UserError as ``load_description`` does."""
    return "encoding" in load_description(folder)[0]


def check_no_masks(described: Description, file: Path, masks: bool) -> None:
    """Check that a model of labels is not asked for masks.

    Raises:
        UserError: it is.
    """
    if masks:
        raise UserError(f"--masks: the model of {file} predicts {WORDS[described.target].per_image}")
