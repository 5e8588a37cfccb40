"""The records of a run: what a stage reports, what the journal keeps, and what MLflow gets.

There is one class per kind of record. To add a kind: write its class here, a method of ``Run`` that
creates it (``run.py``), and what MLflow does with it (``mlflow/delivery.py``). Records hold no secrets:
their texts are redacted when they are created.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from darkroom.tracking.secrets.redaction import redact

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_INTEGER_FLOAT = 1e15
"""Floats above this are written with an exponent even if they are integers."""

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""MLflow's names: the work was done; it raised an error; a signal ended its process."""


def clean(value: Any) -> Any:
    """Return the value with all texts in it redacted and encodable as UTF-8."""
    match value:
        case str():
            return redact(value.encode("utf-8", "backslashreplace").decode())
        case dict():
            return {name: clean(item) for name, item in value.items()}
        case list() | tuple():
            return [clean(item) for item in value]
    return value


def param_text(value: object) -> str:
    """Return a parameter's value as text, the same for an integer and an equal float."""
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_INTEGER_FLOAT:
        value = int(value)
    return json.dumps(value) if isinstance(value, bool | list | dict) else str(value)


Text = Annotated[str, BeforeValidator(clean)]
"""Text that may quote anything, and is redacted."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Start(_Record):
    """The beginning of a run."""

    kind: Literal["start"] = "start"
    stage: str
    name: Text
    tags: dict[str, Text]
    destination: str
    """Digest of the address of the MLflow that gets the run."""
    address: str
    """The same address for people to read, without secrets."""
    may_resume: bool = False
    """Whether the run is held back until ``NotResumed``, because it may resume an earlier one."""
    timestamp_ms: int


class NotResumed(_Record):
    """A run that could have resumed an earlier one is a run of its own."""

    kind: Literal["not_resumed"] = "not_resumed"


class Resumed(_Record):
    """Another process has resumed the run."""

    kind: Literal["resumed"] = "resumed"
    timestamp_ms: int


class Params(_Record):
    """Parameters by full name, as text."""

    kind: Literal["params"] = "params"
    values: dict[str, Text]


class Tags(_Record):
    """Texts by which runs can be found."""

    kind: Literal["tags"] = "tags"
    values: dict[str, Text]


class Metrics(_Record):
    """Metrics at one step."""

    kind: Literal["metrics"] = "metrics"
    values: dict[str, float]
    step: int
    timestamp_ms: int


class File(_Record):
    """A file to keep with the run; ``sha256`` and ``size`` are those of its copy in the journal."""

    kind: Literal["file"] = "file"
    path: str
    """Relative to the project, and to the run's artifacts."""
    sha256: str = ""
    size: int = 0


class Dataset(_Record):
    """A dataset that was used."""

    kind: Literal["dataset"] = "dataset"
    name: str
    digest: str
    source: Text
    profile: Annotated[dict[str, Any], BeforeValidator(clean)]


class Model(_Record):
    """An ONNX file: a logged model of the run, and the registry's latest candidate."""

    kind: Literal["model"] = "model"
    name: str
    file: File
    description: File | None = None
    """model.json of the same export; journals of earlier versions lack it."""
    params: dict[str, Text] = {}
    tags: dict[str, Text] = {}
    metrics: dict[str, float] = {}
    dataset: tuple[str, str] | None = None
    """Name and digest of the dataset on which the metrics were measured."""
    step: int = 0
    """The run's step at which the model had these weights."""
    timestamp_ms: int = 0


class Note(_Record):
    """A section of the run's description, in Markdown."""

    kind: Literal["note"] = "note"
    title: str
    text: Text


class Input(_Record):
    """An artifact that the run reads; links the run to the latest one that produced it."""

    kind: Literal["input"] = "input"
    artifact: str
    digest: str
    as_child: bool
    """Whether MLflow shows the run below its producer."""


class End(_Record):
    """The end of a run."""

    kind: Literal["end"] = "end"
    status: Status
    error: Text = ""
    timestamp_ms: int


Record = Annotated[
    Start | NotResumed | Resumed | Params | Tags | Metrics | File | Dataset | Model | Note | Input | End,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class ImageBatch:
    """Images of a batch, for TensorBoard.

    ``images`` is uint8 or float ``(n, channels, height, width)``, 0..255, on any device.
    """

    name: str
    images: "Tensor"


@dataclass(frozen=True)
class Graph:
    """The graph of a model, for TensorBoard; ``images`` as in ``ImageBatch`` are its example input."""

    model: "nn.Module"
    images: "Tensor"


@dataclass(frozen=True)
class PrCurves:
    """The precision-recall curve of each class, for TensorBoard.

    ``targets`` is int64 ``(n,)``, or 0 and 1 ``(n, num_classes)`` if images have several labels;
    ``probabilities`` is float ``(n, num_classes)``. Both are on the CPU.
    """

    class_names: tuple[str, ...]
    targets: "Tensor"
    probabilities: "Tensor"


LiveRecord = ImageBatch | Graph | PrCurves
"""Records that hold tensors. They exist only while a stage runs; no journal keeps them."""
