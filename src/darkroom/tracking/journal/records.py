"""What a journal keeps of a run: plain values, as JSON, from which MLflow can be filled at any time."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""As MLflow names them: the work was done; it raised an error; its process was ended from outside."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Start(_Record):
    """The beginning of a run."""

    kind: Literal["start"] = "start"
    stage: str
    name: str
    tags: dict[str, str]
    destination: str
    """Digest of the MLflow it is meant for."""
    address: str
    """The same for people to read, without secrets."""
    waits: bool = False
    """Is nothing to be seen of until ``Go``: it may turn out to go on with an earlier run."""
    timestamp_ms: int


class Go(_Record):
    """Says that a run that waited is one of its own."""

    kind: Literal["go"] = "go"


class Resumed(_Record):
    """Says that the run has begun again, in another process."""

    kind: Literal["resumed"] = "resumed"
    timestamp_ms: int


class Params(_Record):
    """Parameters by their full names, as text."""

    kind: Literal["params"] = "params"
    values: dict[str, str]


class Tags(_Record):
    """Text by which runs can be found."""

    kind: Literal["tags"] = "tags"
    values: dict[str, str]


class Metrics(_Record):
    """Numbers of one moment."""

    kind: Literal["metrics"] = "metrics"
    values: dict[str, float]
    step: int
    timestamp_ms: int


class File(_Record):
    """A file, a copy of which lies in the journal's spool."""

    kind: Literal["file"] = "file"
    path: str
    """Relative, as in the project and in the run's artifacts."""
    sha256: str
    size: int


class Dataset(_Record):
    """A data set that was used."""

    kind: Literal["dataset"] = "dataset"
    name: str
    digest: str
    source: str
    profile: dict[str, Any]


class Model(_Record):
    """An ONNX file in the spool, to become a logged model."""

    kind: Literal["model"] = "model"
    name: str
    file: File
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    dataset: tuple[str, str] | None = None
    """Name and digest of the data that the metrics are of."""
    step: int = 0
    """Of the run, when the model was as it is."""
    timestamp_ms: int = 0


class Candidate(_Record):
    """The logged model of these contents is the latest that may be put to use."""

    kind: Literal["candidate"] = "candidate"
    sha256: str
    timestamp_ms: int


class Note(_Record):
    """A section of the run's description, in Markdown."""

    kind: Literal["note"] = "note"
    title: str
    text: str


class Used(_Record):
    """Links the run to the latest one that made ``artifact`` with these contents."""

    kind: Literal["used"] = "used"
    artifact: str
    digest: str
    as_child: bool


class End(_Record):
    """How the run ended."""

    kind: Literal["end"] = "end"
    status: Status
    error: str = ""
    timestamp_ms: int


Record = Annotated[
    Start
    | Go
    | Resumed
    | Params
    | Tags
    | Metrics
    | File
    | Dataset
    | Model
    | Candidate
    | Note
    | Used
    | End,
    Field(discriminator="kind"),
]


class Line(_Record):
    """A line of a journal."""

    number: int
    """Counts the lines from 0, so that a missing one is noticed."""
    maker: str | None = None
    """Is for the run that made this artifact (see ``Used``), not for the journal's own."""
    record: Record


LINE = TypeAdapter(Line)
