"""What every section of params.yaml is, and what a stage reads of the sections.

There are no defaults: ``params.yaml`` holds every value, so DVC sees every value.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A frozen group of parameters that refuses unknown names and never converts a value."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


def only_if(name: str, value: object, applies: bool, where: str) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a parameter that is to be null where it does not apply, else not."""
    if applies and value is None:
        yield name, f"null is not allowed {where}"
    if not applies and value is not None:
        shown = str(value).lower() if isinstance(value, bool) else value
        yield name, f"{shown} has no effect {where}; it must be null there"


class StageConfig(Section):
    """What one stage reads of params.yaml: its fields are the ``params`` of the stage in dvc.yaml."""

    @classmethod
    def of(cls, params: Section) -> Self:
        """Takes this stage's part of ``params``."""
        values = params.model_dump()
        return cls.model_validate({name: _part(values[name], cls, name) for name in cls.model_fields})

    @property
    def is_deterministic(self) -> bool:
        """Whether equal inputs must give equal bytes."""
        return True


def _part(value: Any, config: type[StageConfig], name: str) -> Any:
    """Leaves out of a section what the stage does not read."""
    section = config.model_fields[name].annotation
    if not isinstance(value, dict) or not isinstance(section, type):
        return value
    return {key: value[key] for key in section.model_fields}
