"""The options for images, which do not apply to the rows of a table (``data.table``)."""

from typing import TYPE_CHECKING

from darkroom.config.section import Mistakes

if TYPE_CHECKING:
    from darkroom.config.params import Params

RECIPE = "breast_cancer"

FORMATS = ("onnx", "pt2")
"""The formats that a model of rows can be exported to."""

_OFF = {
    "prepare.image_size": "auto",
    "prepare.channels": "auto",
    "train.image_size": None,
    "train.evaluate_crop": None,
    "evaluate.tta": None,
}
"""Parameters, and the value that means that images stay as they are."""


def mistakes_of_rows(params: "Params") -> Mistakes:
    """Yield the parameters that change images, and a network that takes images, if there are rows."""
    table = params.data.table
    if table is None:
        return
    augment = params.augment
    off = {**_OFF, **{f"augment.{name}": None for name in type(augment).model_fields}}
    del off["augment.erase_fill"]
    for name, value in off.items():
        section, _, option = name.partition(".")
        given = getattr(getattr(params, section), option)
        is_augment = section == "augment"
        if given if is_augment else given != value:
            unset = (
                f"switch it off, as `darkroom use {RECIPE}` does"
                if is_augment
                else f"set it to {value or 'null'}"
            )
            yield name, f"{given} is for images, but data.table {table!r} has rows; {unset}"
    if other := [name for name in params.export.formats if name not in FORMATS]:
        yield (
            "export.formats",
            f"{other[0]} is for images, but data.table {table!r} has rows; allowed are"
            f" {' and '.join(FORMATS)}",
        )
    if params.data.label_separator is not None:
        yield "data.label_separator", f"the rows of data.table {table!r} have one class each; set null"
    if params.prepare.storage == "encoded":
        yield "prepare.storage", "encoded is for images; rows are stored as numbers: set decoded or auto"
    if params.model.weights != "random":
        yield (
            "model.weights",
            f"{params.model.weights} belongs to the statistics and categories of other rows; set random",
        )
    if params.model.name != "mlp":
        yield (
            "model.name",
            f"{params.model.name} takes images, but data.table {table!r} has rows; choose mlp"
            f" (`darkroom use {RECIPE}`, before data.table is set)",
        )
