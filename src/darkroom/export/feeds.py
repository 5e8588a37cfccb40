"""What ONNX Runtime is given for a batch. Nothing here imports PyTorch, which takes seconds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.inputs import Encoding


def onnx_feeds(batch: NDArray[Any], encoding: Encoding | None) -> dict[str, NDArray[Any]]:
    """Return the inputs of an ONNX model, by name.

    Args:
        batch: images; or rows, float64 ``(n, encoding.size)``: numbers, then codes.
        encoding: of rows; None: the batch has images.
    """
    if encoding is None:
        return {"images": batch}
    numbers, codes = np.split(batch, [len(encoding.numbers)], axis=1)
    columns: dict[str, NDArray[Any]] = {
        number.name: column for number, column in zip(encoding.numbers, numbers.T, strict=True)
    }
    for category, column in zip(encoding.categories, codes.T, strict=True):
        unknown = max((*category.values, ""), key=len) + "?"
        columns[category.name] = np.array([unknown, *category.values], object)[column.astype(np.int64)]
    return columns
