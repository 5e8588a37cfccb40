"""Exported models of rows take a matrix of numbers and codes; in ONNX, a named input per column."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from darkroom.export.columns import name_columns
from darkroom.inputs import Encoding
from darkroom.models.spec import ModelSpec

name = "rows"


def example(spec: ModelSpec) -> Tensor:
    return torch.zeros(2, spec.channels, dtype=torch.float64)


def given(batch: NDArray[Any]) -> NDArray[Any]:
    return batch.reshape(len(batch), -1)


def finish(model: ModelProto, spec: ModelSpec) -> None:
    assert spec.encoding is not None
    numbers = [number.name for number in spec.encoding.numbers]
    name_columns(model, numbers, {one.name: one.values for one in spec.encoding.categories})


def feeds(batch: NDArray[Any], encoding: Encoding | None) -> dict[str, NDArray[Any]]:
    assert encoding is not None
    numbers, codes = np.split(batch, [len(encoding.numbers)], axis=1)
    columns: dict[str, NDArray[Any]] = {
        number.name: column for number, column in zip(encoding.numbers, numbers.T, strict=True)
    }
    for category, column in zip(encoding.categories, codes.T, strict=True):
        unknown = max((*category.values, ""), key=len) + "?"
        columns[category.name] = np.array([unknown, *category.values], object)[column.astype(np.int64)]
    return columns
