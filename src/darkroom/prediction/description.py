"""What a prediction needs to know of an exported model."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PositiveInt

from darkroom.decoding.decode import Resize
from darkroom.targets import Target

_Probability = Annotated[float, Field(ge=0, le=1)]


class Abstention(BaseModel):
    """When an answer is too unsure; no threshold has reached the precision if it is None."""

    target_precision: float
    threshold: _Probability | None


class Sets(BaseModel):
    """The lowest probability at which each class belongs to the set of possible classes."""

    thresholds: list[_Probability]


class ExportDescription(BaseModel):
    """The values of model.json that a prediction needs."""

    class_names: list[str] = Field(min_length=1)
    input_size: tuple[PositiveInt, PositiveInt]
    channels: Literal[1, 3]
    resize: Resize
    # not in model.json if prepared images have the input size
    prepared_size: tuple[PositiveInt, PositiveInt] | None = None
    evaluate_crop: Literal["centre", "whole"] | None = None
    # in model.json as multi_label, and only if it is not one class
    target: Target = "one_class"
    thresholds: list[_Probability] | None = None
    # not in model.json of earlier versions, or if evaluate was not asked for them
    abstention: Abstention | None = None
    conformal: Sets | None = None
