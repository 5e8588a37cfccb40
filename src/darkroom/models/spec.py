"""What a model file says of itself: everything that is needed to use the model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open

from darkroom.errors import UserError, brief
from darkroom.models.own_digest import KEY as DIGEST_KEY

FORMAT_VERSION = 2
"""Version 2 added the file's own digest."""

READ_VERSIONS = (1, FORMAT_VERSION)
"""Formats whose description is understood, as of models that a ledger restores."""

METADATA_KEY = "darkroom"
"""Under which a model file has it, as JSON, in its header."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Architecture and preprocessing of a classifier.

    ``training`` and ``environment`` record what it was made with; nothing depends on them.
    ``mean`` and ``std`` have a value a channel, of pixels scaled to 0..1; ``input_size`` is
    ``(height, width)`` in pixels; ``resize`` is how an image of another shape is brought to it.
    """

    name: str
    width: int | None
    depth: int | None
    patch_size: int | None
    dropout: float
    stochastic_depth: float
    head: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    channels: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any]
    environment: dict[str, str]
    # with defaults, since older files do not say so and are read as well
    multi_label: bool = False
    """Whether an image may have several of the classes as labels, or none."""
    thresholds: tuple[float, ...] | None = None
    """Where so, the probability from which each label is predicted; None until it is trained."""
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns values that JSON can hold."""
        return asdict(self)

    def preprocessing(self) -> dict[str, Any]:
        """Returns what one must know to use the model without darkroom."""
        labels = {"multi_label": True, "thresholds": self.thresholds} if self.multi_label else {}
        return {
            "class_names": self.class_names,
            "input_size": self.input_size,
            "channels": self.channels,
            "resize": self.resize,
            "dtype": "uint8",
            "range": [0, 255],
            "normalisation": "inside the model",
            **labels,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Takes back what ``to_dict`` gave, through JSON too."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != DIGEST_KEY
        }
        return cls(**plain)


def load_spec(path: Path) -> ModelSpec:
    """Reads what the model file at ``path`` says of itself, without a check of its bytes.

    Raises:
        UserError: it is no model file of darkroom's, is damaged, or of another version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; run `dvc repro train`") from None
    except SafetensorError as error:
        raise UserError(f"{path}: damaged or no safetensors file ({brief(error)})") from None
    if METADATA_KEY not in metadata:
        raise UserError(f"{path}: not written by darkroom (it does not describe itself)")
    try:
        values = json.loads(metadata[METADATA_KEY])
        version = values["format_version"]
        if version in READ_VERSIONS:
            return ModelSpec.from_dict(values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: what it says of itself is damaged ({error!r})") from None
    raise UserError(f"{path}: format {version}, this darkroom reads {FORMAT_VERSION}")
