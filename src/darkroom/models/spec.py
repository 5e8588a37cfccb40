"""What a model file says of itself: everything that is needed to use the model."""

from dataclasses import asdict, dataclass
from typing import Any, Self

FORMAT_VERSION = 1


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
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)
