"""The section ``export``, and what the stage of that name reads."""

from typing import Literal

from pydantic import Field

from darkroom.config.section import Mistakes, Section, StageConfig


class Export(Section):
    """The exported model files."""

    formats: list[
        Literal["onnx", "onnx-fp16", "onnx-int8", "onnx-with-preprocessing", "openvino", "pt2"]
    ] = Field(
        description="formats to export in addition to safetensors; `darkroom predict` needs one of "
        "onnx, onnx-fp16 and onnx-int8; openvino needs the extra `darkroom[openvino]`"
    )
    parity_tolerance: float = Field(
        gt=0,
        le=1,
        description="maximum difference of a probability of a test image or row between a format and "
        "the model; for onnx-fp16 and onnx-int8, `max_f1_drop` applies instead",
    )
    max_f1_drop: float = Field(
        ge=0,
        le=1,
        description="how far the macro F1 of onnx-fp16 and onnx-int8 on the test images may fall below "
        "that of the model: the lower bound of the 95 % interval of the change must not be further down",
    )
    golden_images: int = Field(
        ge=0,
        le=100,
        description="maximum number of test images or rows, one per class, that are copied to "
        "`export/golden/`, with the probabilities that the model must give; 0: only a drawn pattern is "
        "there",
    )

    def mistaken_combinations(self) -> Mistakes:
        if len(set(self.formats)) < len(self.formats):
            yield "export.formats", f"{self.formats} contains a format twice; list each format once"


class ExportConfig(StageConfig):
    num_threads: int
    export: Export
