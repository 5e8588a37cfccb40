"""Exported models of rows take a matrix of numbers and codes; in ONNX, a named input per column."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from darkroom.export.columns import name_columns
from darkroom.export.feeds import onnx_feeds
from darkroom.export.golden import EXPECTED, FOLDER, expected_rows
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec

name = "rows"
packages: tuple[str, ...] = ()


def example(spec: ModelSpec) -> Tensor:
    return torch.zeros(2, spec.channels, dtype=torch.float64)


def given(batch: NDArray[Any]) -> NDArray[Any]:
    return batch.reshape(len(batch), -1)


def finish(model: ModelProto, spec: ModelSpec) -> None:
    assert spec.encoding is not None
    numbers = [number.name for number in spec.encoding.numbers]
    name_columns(model, numbers, {one.name: one.values for one in spec.encoding.categories})


def write_golden(
    model: Classifier, spec: ModelSpec, examples: NDArray[Any], tolerance: float, folder: Path
) -> list[Path]:
    """Write ``rows.csv`` with the inputs of ONNX, and ``expected.txt``.

    A row called ``missing``, without any value, is added.
    """
    assert spec.encoding is not None
    golden = folder / FOLDER
    shutil.rmtree(golden, ignore_errors=True)  # rows of an earlier export may not be handed out
    golden.mkdir(parents=True)
    codes = [one.values.index("") + 1 if "" in one.values else 0 for one in spec.encoding.categories]
    missing = [math.nan] * len(spec.encoding.numbers) + codes
    rows = np.vstack([given(examples), [missing]])
    names = [*map(str, range(len(examples))), "missing"]
    columns = onnx_feeds(rows, spec.encoding)
    files = [golden / "rows.csv", golden / EXPECTED]
    with files[0].open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", *columns])
        for name_, *values in zip(names, *(column.tolist() for column in columns.values()), strict=True):
            table.writerow([name_, *("" if value != value else value for value in values)])
    with torch.inference_mode():
        probabilities = probabilities_of(model(torch.from_numpy(rows)), spec).numpy()
    shape = f"{len(rows)} {spec.encoding.size} {len(spec.class_names)} {tolerance:g}"
    lines = [shape, *expected_rows(names, probabilities)]
    files[1].write_text("".join(f"{line}\n" for line in lines), encoding="ascii", newline="\n")
    return files
