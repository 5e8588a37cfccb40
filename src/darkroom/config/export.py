"""The section ``export``, and what the stage of that name reads."""

from typing import Literal

from pydantic import Field

from darkroom.config.section import Section, StageConfig


class Export(Section):
    """The files that leave the project."""

    formats: list[Literal["onnx", "pt2"]] = Field(
        description="formats beside safetensors; darkroom predict needs onnx"
    )
    parity_images: int = Field(
        ge=1, le=10_000, description="test images on which each format is compared"
    )
    parity_tolerance: float = Field(
        gt=0, le=1, description="largest difference of a probability between a format and the model"
    )


class ExportConfig(StageConfig):
    num_threads: int
    export: Export
