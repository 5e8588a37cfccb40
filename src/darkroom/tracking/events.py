"""What can be said of a run: plain values, so that they could be kept, replayed or sent elsewhere.

Images and Graph alone hold what changes afterwards; who wants it takes it as it is told.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


LONGEST_WHOLE = 1e15
"""Greater floats are written with an exponent."""


@dataclass(frozen=True)
class Params:
    """Parameters by their full names."""

    values: dict[str, Any]

    def texts(self) -> dict[str, str]:
        """Returns the values as text."""
        return {name: param_text(value) for name, value in self.values.items()}


@dataclass(frozen=True)
class Tags:
    """Text by which runs can be found."""

    values: dict[str, str]


@dataclass(frozen=True)
class Metrics:
    """Numbers of one moment."""

    values: dict[str, float]
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class Artifacts:
    """Files or folders to keep with the run."""

    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set that was used; ``profile`` is what JSON can hold of its description."""

    name: str
    digest: str
    source: Path
    profile: dict[str, Any]


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file to become a logged model of the run, and the registry's candidate."""

    path: Path
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    """Its scores, which the run may have already."""
    dataset: tuple[str, str]
    """Name and digest of the data that these are of."""
    step: int
    """Of the run, when the model was as it is."""
    timestamp_ms: int


@dataclass(frozen=True)
class Note:
    """A section of the run's description, in Markdown."""

    title: str
    text: str


@dataclass(frozen=True)
class Images:
    """Images to look at.

    ``images`` is uint8 or float ``(n, channels, height, width)``, 0..255, on any device.
    """

    name: str
    images: "Tensor"


@dataclass(frozen=True)
class Graph:
    """What a model computes of ``images``, which are as in ``Images``."""

    model: "nn.Module"
    images: "Tensor"


@dataclass(frozen=True)
class PrCurves:
    """The precision-recall curve of each class.

    ``targets`` is int64 ``(n,)``, or 0 and 1 ``(n, num_classes)`` where images have several labels;
    ``probabilities`` float ``(n, num_classes)``. Both on the CPU.
    """

    class_names: tuple[str, ...]
    targets: "Tensor"
    probabilities: "Tensor"


Event = Params | Tags | Metrics | Artifacts | Dataset | OnnxModel | Note | Images | Graph | PrCurves


def param_text(value: object) -> str:
    """Returns a parameter as text; a whole number in the same way whether it is an int or a float."""
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer() and abs(value) < LONGEST_WHOLE:
        value = int(value)
    return json.dumps(value) if isinstance(value, bool | list | dict) else str(value)
