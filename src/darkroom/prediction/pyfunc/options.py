"""What may be chosen when MLflow loads a model: its ``model_config``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from darkroom.errors import UserError, did_you_mean, listed

TOP_K = 5
"""The number of the most probable classes in an answer, unless the request says another."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is loaded and asked; see ``darkroom predict``."""

    abstain: bool = False
    """Answer ``abstain`` if the model is not sure enough."""
    paths: bool = True
    """Read the files that the column ``path`` names."""
    tiff: bool = False
    """Also read TIFF files."""
    tile: bool = False
    """Predict masks in the scale of the image."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Return the options in a ``model_config``.

        Raises:
            UserError: there is no such option, or its value is not true or false.
        """
        names = [field.name for field in fields(cls)]
        for name, value in config.items():
            if name not in names:
                hint = did_you_mean(name, names)
                raise UserError(f"model_config: {name} is not one of {listed(names)}{hint}")
            if not isinstance(value, bool):
                raise UserError(f"model_config: {name} is {value!r}; allowed are true and false")
        return cls(**config)

    def as_config(self) -> dict[str, bool]:
        """Return the options as a ``model_config``."""
        return asdict(self)
