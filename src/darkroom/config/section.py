"""The base class of the sections of params.yaml, and of what a stage reads from them.

There are no defaults: ``params.yaml`` holds every value, so DVC sees every value.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]

Side = Annotated[int, Field(ge=1, le=2048)]

ImageSize = Side | Annotated[list[Side], Field(min_length=2, max_length=2, examples=["[height, width]"])]
"""Size of images in pixels: the side of squares, or height and width."""

Size = tuple[int, int]
"""Height and width in pixels."""

Mistakes = Iterator[tuple[str, str]]
"""(full name of a parameter, what is wrong with its value)"""


class Section(BaseModel):
    """A frozen group of parameters that rejects unknown names and never converts a value."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    def mistaken_combinations(self) -> Mistakes:
        """Yield a message for each combination of values that makes no sense together."""
        yield from ()


def size_of(value: int | list[int]) -> Size:
    """Return the height and width that a value of type ``ImageSize`` stands for."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def null_unless(applies: bool, condition: str, name: str, value: object) -> Mistakes:
    """Yield a message if a parameter is null although it applies, or set although it does not.

    Args:
        condition: the setting that decides whether the parameter applies, as "train.loss is focal".
    """
    if applies and value is None:
        yield name, f"null is not allowed when {condition}"
    if not applies and value is not None:
        shown = str(value).lower() if isinstance(value, bool) else value
        yield name, f"{shown} has no effect when {condition}; it must be null"


class StageConfig(Section):
    """What one stage reads from params.yaml; the fields are the stage's ``params`` in dvc.yaml."""

    @classmethod
    def of(cls, params: Section) -> Self:
        """Return the part of ``params`` that this stage reads."""
        values = params.model_dump()
        return cls.model_validate({name: _part(values[name], cls, name) for name in cls.model_fields})

    @property
    def is_deterministic(self) -> bool:
        """Whether equal inputs must give equal bytes."""
        return True


def _part(value: Any, config: type[StageConfig], name: str) -> Any:
    """Return a section without the parameters that the stage does not read."""
    section = config.model_fields[name].annotation
    if not isinstance(value, dict) or not isinstance(section, type):
        return value
    return {key: value[key] for key in section.model_fields}
