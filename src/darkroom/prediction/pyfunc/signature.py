"""The signature of an exported model, and an example of its input, for MLflow."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from PIL import Image

from darkroom.inputs import ColumnKind, Encoding
from darkroom.prediction.pyfunc.cells import IMAGE, PATH
from darkroom.prediction.pyfunc.options import TOP_K
from darkroom.targets import Target

GREY = 127

_EXAMPLES: dict[ColumnKind, Any] = {"date": "2026-01-31", "boolean": True}

_TEXTS = Array(DataType.string)


def _parts(number: str) -> Array:
    """Return the type of a list of classes, each with a number."""
    return Array(Object([Property("class", DataType.string), Property(number, DataType.double)]))


_CLASSES = {
    "classes": _TEXTS,
    "probabilities": Array(DataType.double),
    "top": _parts("probability"),
    "unsure": _TEXTS,
    "set": _TEXTS,
    "unfamiliarity": DataType.double,
    "unfamiliar": DataType.boolean,
}

_MASK = {
    "width": DataType.long,
    "height": DataType.long,
    "shares": _parts("share"),
    "mask_png": DataType.string,
}

_FAILED = {"error": DataType.string, "what_to_do": DataType.string}

_OF_TARGET: dict[Target, dict[str, Any]] = {
    "one_class": _CLASSES,
    "several_labels": _CLASSES,
    "mask": _MASK,
}


def signature_of(values: Mapping[str, Any]) -> ModelSignature:
    """Return the signature of a model.

    Columns may hold anything, so that it is darkroom that says what is wrong with a cell. MLflow would
    refuse whole numbers for a column of fractions, and accept text that is not base64.

    Args:
        values: those of model.json, as ``from_file`` returns them.
    """
    if "encoding" in values:
        inputs = [ColSpec(AnyType(), name) for name in values["encoding"]["columns"]]
        name = {"row": DataType.long}
    else:
        inputs = [ColSpec(AnyType(), one, required=False) for one in (IMAGE, PATH)]
        name = {"file": DataType.string}
    answer = {**name, **_OF_TARGET[values.get("target", "one_class")], **_FAILED}
    outputs = [ColSpec(kind, one, required=False) for one, kind in answer.items()]
    params = ParamSchema([ParamSpec("top_k", DataType.long, TOP_K)])
    return ModelSignature(Schema(inputs), Schema(outputs), params)


def example_of(values: Mapping[str, Any]) -> pd.DataFrame:
    """Return an input that the model takes: a grey image, or a row of medians.

    It holds nothing of the data but what model.json holds.

    Args:
        values: as for ``signature_of``.
    """
    if "encoding" in values:
        return pd.DataFrame([_row(Encoding.from_dict(values["encoding"]))])
    height, width = values.get("prepared_size") or values["input_size"]
    mode = "L" if values["channels"] == 1 else "RGB"
    file = io.BytesIO()
    Image.new(mode, (width, height), (GREY,) * values["channels"]).save(file, "PNG")
    return pd.DataFrame({IMAGE: [base64.b64encode(file.getvalue()).decode()]})


def _row(encoding: Encoding) -> dict[str, Any]:
    medians = {number.name: number.median for number in encoding.numbers}
    first = {one.name: next(filter(None, one.values), "") for one in encoding.categories}
    return {
        name: _EXAMPLES[kind] if kind in _EXAMPLES else (medians | first)[name]
        for name, kind in encoding.columns.items()
    }
