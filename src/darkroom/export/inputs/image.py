"""Exported models of images take uint8 pixels."""

from typing import Any

import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from darkroom.export.golden import write_golden as write_golden
from darkroom.models.spec import ModelSpec

name = "images"
packages: tuple[str, ...] = ("pillow",)


def example(spec: ModelSpec) -> Tensor:
    return torch.zeros(2, spec.channels, *spec.input_size, dtype=torch.uint8)


def given(batch: NDArray[Any]) -> NDArray[Any]:
    return batch


def finish(model: ModelProto, spec: ModelSpec) -> None:
    """Leave the model as it is."""
