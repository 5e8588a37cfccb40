"""What can be said of a run: plain values, so that they could be kept, replayed or sent elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Params:
    """Parameters by their full names."""

    values: dict[str, Any]


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
    """An ONNX file to become a logged model of the run."""

    path: Path
    name: str


Event = Params | Tags | Metrics | Artifacts | Dataset | OnnxModel
