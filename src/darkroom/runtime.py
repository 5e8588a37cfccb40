"""Settings that must not change results: they come from the environment, never from params.yaml."""

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.errors import UserError, did_you_mean
from darkroom.parallel import available_cores

PREFIX = "DARKROOM_"


class Runtime(BaseModel):
    """Settings of this machine, from the environment: ``DARKROOM_DEVICE=cpu`` sets ``device``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="device of the model; auto: CUDA, else MPS, else CPU"
    )
    workers: int = Field(
        default_factory=available_cores,
        ge=1,
        le=1024,
        description="number of processes that decode images",
    )
    checkpoint_seconds: int = Field(
        60,
        ge=1,
        le=86_400,
        description="interval of checkpoints: a training that is killed loses at most this much work",
    )
    features_gib: int = Field(
        10,
        ge=1,
        le=100_000,
        description="maximum size of the cache of features, in GiB; the least recently used are removed",
    )
    tracking: Literal["on", "off"] = Field("on", description="off: nothing is sent to MLflow")
    mlflow_seconds: int = Field(
        60,
        ge=0,
        le=86_400,
        description="maximum time that a stage waits, at its end, until MLflow has its run; "
        "a third of it without progress",
    )
    tensorboard: str | None = Field(
        None, min_length=1, description="folder for TensorBoard's event files"
    )
    system_metrics: Literal["on", "off"] = Field(
        "off", description="on: also log the load of CPU, memory and GPU"
    )


def load_runtime(environ: Mapping[str, str] = os.environ) -> Runtime:
    """Read the ``DARKROOM_*`` variables of ``environ``.

    Raises:
        UserError: a variable is unknown, or its value is not allowed.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
    }
    try:
        return Runtime.model_validate(given)
    except ValidationError as error:
        raise UserError("\n".join(_explain(given, e["loc"][0]) for e in error.errors())) from None


def _explain(given: Mapping[str, str], name: str | int) -> str:
    setting = f"{PREFIX}{str(name).upper()}"
    field = Runtime.model_fields.get(str(name))
    if field is None:
        known = [f"{PREFIX}{known.upper()}" for known in Runtime.model_fields]
        return (
            f"environment: {setting} is not a setting of darkroom (the settings are {', '.join(known)})"
            f"{did_you_mean(setting, known)}"
        )
    schema = Runtime.model_json_schema()["properties"][str(name)]
    return f"environment: {setting}={given[str(name)]} is not allowed; it must be {_allowed(schema)}"


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "minimum" in schema:
        return f"an integer from {schema['minimum']} to {schema['maximum']}"
    return "a folder, or not set"
