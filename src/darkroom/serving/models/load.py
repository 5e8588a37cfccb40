"""Loads an exported folder as a model to serve, after its files were checked."""

from contextlib import suppress
from importlib.metadata import version
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.digests import file_sha256
from darkroom.models.exported import DESCRIPTION, ONNX_FILES, check_exported, load_description
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.rows import RowPredictor
from darkroom.serving.engine import Engine
from darkroom.serving.models.classes import ClassModel
from darkroom.serving.models.interface import Exported, Info, Options, ServedModel
from darkroom.serving.models.masks import MaskModel
from darkroom.serving.models.rows import RowModel
from darkroom.targets import Target, from_file

_OF_IMAGES: dict[Target, type[ClassModel] | type[MaskModel]] = {
    "one_class": ClassModel,
    "several_labels": ClassModel,
    "mask": MaskModel,
}

PARITY = "parity.json"

_TOLD = ("class_names", "target", "input_size", "channels", "resize", "temperature", "thresholds")


def load_served(exported: Exported, options: Options, engine: Engine) -> ServedModel:
    """Return a model that has classified its first images.

    Raises:
        UserError: a file is missing, damaged, or from another export; or the model does not fit the
            options.
    """
    stored, digests = load_description(exported.folder)
    values = from_file(stored)
    takes_rows = "encoding" in values
    file = ONNX_FILES["onnx" if takes_rows else options.format_name]
    check_exported(exported.folder, digests, file)
    scores: dict[str, Any] = {}
    if PARITY in digests:
        check_exported(exported.folder, digests, PARITY)
        with suppress(ValueError, AttributeError):
            scores = load_json(exported.folder / PARITY).get(file, {})
    info = Info(
        exported.name,
        exported.version,
        digests[file].sha256,
        file_sha256(exported.folder / DESCRIPTION),
        {
            "format": options.format_name,
            "darkroom": version("darkroom"),
            "input": "rows" if takes_rows else "images",
            **{name: values[name] for name in _TOLD if name in values},
            **({"columns": values["encoding"].get("columns", {})} if takes_rows else {}),
            "metrics": scores,
        },
    )
    served: ServedModel
    if takes_rows:
        served = RowModel(RowPredictor(exported.folder, options.abstain), info, options, engine)
    else:
        kind = _OF_IMAGES[values.get("target", "one_class")]
        predictor = Predictor(
            exported.folder, options.tiff, options.abstain, kind is MaskModel, options.format_name
        )
        served = kind(predictor, info, options, engine)
    served.warm_up()
    return served
